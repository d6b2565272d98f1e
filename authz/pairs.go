package authz

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/usher-authz/usher/policies"
)

// cache keeps what was found for pairs of subject and resource, up to a limit. A hit is
// the hot path of the whole program, so it takes no lock, and writes nothing that other
// cores read. Among many pairs it waits for memory, and for little else; so a pair is half
// a cache line, and what it has in common with others is near, since that is little:
//
//	hash ──▶ slots   subject, resource, owner ─▶ names  each once, one behind the other
//	           ┊      kind                     ─▶ kinds  of permissions, each once
//	         rests    for the first look at another root
//
// (Measured among 100,000 pairs: entries of 128 bytes with the ids in them, behind buckets
// of pointers, took twice as long. A cache of a library, otter, took three times as long
// among few: it counts how often each key is used, and follows four pointers to an entry.)
//
// A slot is written once, then its head, by which readers know it; and of what they know
// nothing changes but the head. What is found anew for a pair gets another slot before its
// first one is left. So a reader meets no half of a change, and takes no pair for another.
// When there is no room the writer makes other pairs of those that stay, while readers go
// on with what they have. Of many that takes a while, in which nobody waits: what is found
// meanwhile is not kept.
type cache struct {
	seed    maphash.Seed
	limit   int
	enough  int // bytes of names, after which they are gone through for what is used
	inForce atomic.Pointer[pairs]
	latest  atomic.Int64 // when the last of all was computed, in nanoseconds
	count   atomic.Int64 // of the slots that are not left
	busy    atomic.Bool  // other pairs are being made of many

	writing sync.Mutex        // for what follows
	taken   int               // slots
	hand    uint32            // where evict looks next
	named   int               // bytes of names
	index   map[uint64]uint32 // where names are, by their hashes
	numbers map[kind]uint32   // of kinds
}

// pairs are arrays that never grow.
type pairs struct {
	slots []slot
	rests []rest
	names []byte // texts; the first is the empty one
	kinds []kind
}

// slot is 32 bytes, so that none is in two cache lines.
type slot struct {
	// head is 0 while nothing is there, left when what is there is to be found no more,
	// and else twice the number of the last root at which it was found to hold, and one
	// more if it was used since evict looked.
	head atomic.Uint64
	about
}

// about is the pair, by the places of its names, and what was found for it.
type about struct {
	hash, subject, resource, owner, kind uint32

	of uint8 // the resource's type
}

const left = ^uint64(0)

// rest is what a hit at the same root as the last does without.
type rest struct {
	revision policies.Revision
	since    int64
}

// kind is what the permissions of many pairs have in common; those that end by the
// clock have one of their own.
type kind struct {
	common *common
	ends   *end
}

const (
	spare     = 16
	fullAt    = 7 // of perEight slots: with three quarters at most a hit is slower, among more slots
	perEight  = 8
	hashBits  = 32
	pairNames = 3           // subject, resource, owner
	kindPairs = 64          // for so many pairs there is room for a kind that comes and goes
	many      = 1 << 12     // slots, of which other pairs are made in a few milliseconds
	fewNames  = 1 << 10     // bytes
	nameBytes = 128         // for each pair at the limit
	mostNames = 1 << 28     // bytes
	timesOver = 3           // what is enough, renew takes over at most, and so makes room for less than 2^32
	golden    = 0x9e37_79b9 // 2^32 / φ
)

// newCache makes one of at most limit pairs.
func newCache(limit int) *cache {
	c := &cache{seed: maphash.MakeSeed(), limit: limit, enough: min(nameBytes*limit, mostNames)}
	c.clear()
	return c
}

// clear lets everything go.
func (c *cache) clear() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.count.Store(0)
	c.inForce.Store(c.newPairs(0, c.newNames(fewNames), spare))
}

func (c *cache) newNames(size int) []byte {
	c.index, c.named = map[uint64]uint32{maphash.String(c.seed, ""): 0}, 1
	return make([]byte, size)
}

// newPairs has room for so many without being full.
func (c *cache) newPairs(count int, names []byte, kinds int) *pairs {
	c.numbers, c.taken = map[kind]uint32{}, 0
	size := (min(2*count, c.limit+c.limit/8) + spare) * perEight / fullAt
	return &pairs{make([]slot, size), make([]rest, size), names, make([]kind, kinds)}
}

func (c *cache) len() int { return int(c.count.Load()) }

// hash is not known outside the process, so that nobody can choose keys that meet.
func (c *cache) hash(k *cacheKey) uint32 {
	return uint32(maphash.String(c.seed, string(k.subject)) ^ bits.RotateLeft64(maphash.String(c.seed, k.id), int(k.kind)+1))
}

// find gives the slot of k, and its head as it was; 0: there is none. It is the first that
// was free from where the hash leads. Slots are in the order of hashes, however many they
// are, so that renew writes to memory in order.
func (p *pairs) find(hash uint32, k *cacheKey) (at int, head uint64) {
	for at = p.first(hash); ; at = p.next(at) {
		slot := &p.slots[at]
		head = slot.head.Load()
		if head == 0 {
			return at, 0
		}
		if head != left && slot.hash == hash && slot.of == k.kind &&
			p.name(slot.subject).string() == k.subject && string(p.name(slot.resource).string()) == k.id {
			return at, head
		}
	}
}

func (p *pairs) first(hash uint32) int { return int(uint64(hash) * uint64(len(p.slots)) >> hashBits) }

func (p *pairs) next(at int) int {
	if at++; at == len(p.slots) {
		return 0
	}
	return at
}

func (p *pairs) free(hash uint32) int {
	at := p.first(hash)
	for p.slots[at].head.Load() != 0 {
		at = p.next(at)
	}
	return at
}

func (p *pairs) name(at uint32) text[policies.AccountID] {
	return text[policies.AccountID]{&p.names[at]}
}

// put keeps e for k, unless what is of a later root stands there, or to make room takes
// a while.
func (c *cache) put(k *cacheKey, e *entry) {
	if c.busy.Load() {
		return
	}
	c.writing.Lock()
	p, hash, owner := c.inForce.Load(), c.hash(k), string(e.permissions.owner.string())
	need := len(k.subject) + len(k.id) + len(owner) + pairNames*binary.MaxVarintLen32
	if c.full(p, need) {
		if len(p.slots) > many {
			c.busy.Store(true)
			go func() { // ends by itself, and lets go of the lock
				defer c.writing.Unlock()
				defer c.busy.Store(false)
				c.renew(p, need)
			}()
			return
		}
		p = c.renew(p, need)
	}
	defer c.writing.Unlock()
	at, head := p.find(hash, k)
	if head>>1 > e.held {
		return
	}
	if head == 0 && c.len() >= c.limit {
		c.evict(p)
	}
	free := p.free(hash)
	slot := &p.slots[free]
	slot.about = about{
		hash, c.name(p, string(k.subject)), c.name(p, k.id), c.name(p, owner),
		c.number(p, kind{e.permissions.common, e.permissions.ends}), k.kind,
	}
	p.rests[free] = rest{e.revision, e.permissions.since}
	c.latest.Store(max(c.latest.Load(), e.permissions.since))
	slot.head.Store(e.held << 1)
	c.taken++
	if head != 0 {
		p.slots[at].head.Store(left)
	} else {
		c.count.Add(1)
	}
}

func (c *cache) full(p *pairs, need int) bool {
	return c.taken >= len(p.slots)*fullAt/perEight || c.named+need > len(p.names) || len(c.numbers) == len(p.kinds)
}

// name gives the place of a name; of several with one hash the later go by the next ones.
func (c *cache) name(p *pairs, id string) uint32 {
	hash := maphash.String(c.seed, id)
	for at, ok := c.index[hash]; ok; at, ok = c.index[hash] {
		if string(p.name(at).string()) == id {
			return at
		}
		hash++
	}
	at, free := uint32(c.named), room{p.names[c.named:]}
	newText(&free, id)
	c.named = len(p.names) - len(free.free)
	c.index[hash] = at
	return at
}

func (c *cache) number(p *pairs, k kind) uint32 {
	number, ok := c.numbers[k]
	if !ok {
		number = uint32(len(c.numbers))
		p.kinds[number], c.numbers[k] = k, number
	}
	return number
}

// evict leaves a slot that was not used since it was looked at last (the clock
// algorithm). The hand goes by a golden section of the hashes, so that as many go from
// each part of the slots as come to it.
func (c *cache) evict(p *pairs) {
	for {
		c.hand += golden
		slot := &p.slots[p.first(c.hand)]
		switch head := slot.head.Load(); {
		case head == 0, head == left:
		case head&1 == 1:
			slot.head.Store(head &^ 1)
		default:
			slot.head.Store(left)
			c.count.Add(-1)
			return
		}
	}
}

// renew makes pairs that are not full. Names of what is left stay as long as there may be
// few of them, since to go through all names takes the longest.
func (c *cache) renew(old *pairs, need int) *pairs {
	names, full := old.names, c.named+need > len(old.names)
	anew := full && len(names) >= c.enough
	if anew {
		names = c.newNames(len(names))
	} else if full {
		names = longer(names, need)
	}
	made := c.newPairs(c.len(), names, len(old.kinds))
	for at := range old.slots {
		if head := old.slots[at].head.Load(); head != 0 && head != left && (!anew || c.named < timesOver*c.enough) {
			c.move(old, at, made, anew)
		}
	}
	c.count.Store(int64(c.taken))
	if anew && c.named+need > len(names)/2 {
		made.names = longer(names, need)
	}
	// Kinds that came and went stay until all pairs are gone through: not for a few.
	made.kinds = append(make([]kind, 0, 2*len(c.numbers)+c.taken/kindPairs+spare), made.kinds[:len(c.numbers)]...)
	made.kinds = made.kinds[:cap(made.kinds)]
	c.inForce.Store(made)
	return made
}

func longer(names []byte, need int) []byte { return append(names, make([]byte, len(names)+need)...) }

func (c *cache) move(old *pairs, at int, made *pairs, names bool) {
	from := &old.slots[at]
	free := made.free(from.hash)
	to := &made.slots[free]
	to.about = from.about
	to.kind = c.number(made, old.kinds[from.kind])
	if names {
		for _, name := range []*uint32{&to.subject, &to.resource, &to.owner} {
			*name = c.name(made, string(old.name(*name).string()))
		}
	}
	made.rests[free] = old.rests[at]
	to.head.Store(from.head.Load())
	c.taken++
}
