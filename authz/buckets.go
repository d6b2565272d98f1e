package authz

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// cache keeps entries by their keys, up to a limit. A hit is the hot path of the
// whole program, so it takes no lock, writes nothing that other cores read, and
// touches little memory: one bucket, which is a cache line, and the entry. (A cache
// of a library that was measured here, otter, took three times as long: it counts
// how often each key is used, and follows four pointers to an entry.)
//
//	hash ──▶ shard ──▶ bucket   tags      a byte of the hash for each place
//	                            places    ─▶ entry, which has the key in full
//
// Writers lock their shard. They put an entry into its place before its tag; a
// reader that meets one half of a change finds another key there, or none, and
// evaluates: it can miss what is there, and never takes one for another.
//
// A shard begins small, and doubles when a bucket is full: so a quarter of the places
// or so are taken, and below the limit nothing goes. At the limit what was not used
// since the last look goes (the clock algorithm, in one bucket).
type cache struct {
	seed   maphash.Seed
	shards []shard
}

type shard struct {
	buckets atomic.Pointer[[]bucket] // a power of two of them
	count   atomic.Int64
	limit   int64

	writing sync.Mutex
	hand    uint // where the next look for what may go begins
	_       [16]byte
}

const places = 7

// bucket is 64 bytes: a cache line.
type bucket struct {
	tags    atomic.Uint64 // the lowest byte is the first place's; 0: nothing is there
	entries [places]atomic.Pointer[entry]
}

const (
	maxShards    = 256
	shardEntries = 1024 // that a shard must be worth, at the limit
	sparse       = 16   // a shard with less than one place in so many taken does not grow
	maxLooked    = 8    // buckets in which something unused is looked for
	lowBits      = 0x0101_0101_0101_0101
	highBits     = 0x8080_8080_8080_8080
)

// newCache makes one of at most limit entries.
func newCache(limit int) *cache {
	shards := 1
	for shards < maxShards && limit/(2*shards) >= shardEntries {
		shards *= 2
	}
	c := &cache{seed: maphash.MakeSeed(), shards: make([]shard, shards)}
	for i := range c.shards {
		c.shards[i].limit = int64(limit / shards)
		c.shards[i].buckets.Store(new(make([]bucket, 1)))
	}
	return c
}

// hash is not known outside the process, so that nobody can choose keys that meet.
func (c *cache) hash(k *cacheKey) uint64 {
	return maphash.String(c.seed, string(k.subject)) ^ bits.RotateLeft64(maphash.String(c.seed, k.id), int(k.kind)+1)
}

func (c *cache) shardOf(hash uint64) *shard { return &c.shards[hash>>32&uint64(len(c.shards)-1)] }

// tagOf is the byte that stands for the hash in its bucket.
func tagOf(hash uint64) uint64 { return hash>>56 | 1 }

// matches has the highest bit set of each byte in tags that is tag; rarely of one
// above such a byte too, so the key is looked at.
func matches(tags, tag uint64) uint64 {
	differ := tags ^ tag*lowBits
	return (differ - lowBits) &^ differ & highBits
}

// get finds the entry of k, stale or not.
func (c *cache) get(k *cacheKey) *entry {
	hash := c.hash(k)
	buckets := *c.shardOf(hash).buckets.Load()
	b := &buckets[hash&uint64(len(buckets)-1)]
	for left := matches(b.tags.Load(), tagOf(hash)) << 8 >> 8; left != 0; left &= left - 1 {
		if e := b.entries[bits.TrailingZeros64(left)/8].Load(); e != nil && e.is(k) {
			if !e.used.Load() { // written once, and then only read
				e.used.Store(true)
			}
			return e
		}
	}
	return nil
}

// put keeps an entry for k, unless one of a later root stands there.
func (c *cache) put(k *cacheKey, e *entry) {
	e.setKey(k)
	hash := c.hash(k)
	s := c.shardOf(hash)
	s.writing.Lock()
	defer s.writing.Unlock()
	buckets := *s.buckets.Load()
	b := &buckets[hash&uint64(len(buckets)-1)]
	for i := range b.entries {
		if have := b.entries[i].Load(); have != nil && have.is(k) {
			if have.held.Load() <= e.held.Load() {
				b.entries[i].Store(e)
			}
			return
		}
	}
	if s.count.Load() >= s.limit {
		s.evict(buckets, hash)
	}
	for !b.add(e, tagOf(hash)) {
		if s.count.Load()*sparse < int64(len(buckets))*places {
			place, _ := s.idle(b)
			s.remove(b, place)
			continue
		}
		buckets = s.grow(c, buckets)
		b = &buckets[hash&uint64(len(buckets)-1)]
	}
	s.count.Add(1)
}

// add puts e into a place that is free; false: there is none.
func (b *bucket) add(e *entry, tag uint64) bool {
	for i := range b.entries {
		if b.entries[i].Load() == nil {
			b.entries[i].Store(e)
			b.tags.Store(b.tags.Load() | tag<<(8*i)) //nolint:mnd // bits of a byte
			return true
		}
	}
	return false
}

func (s *shard) remove(b *bucket, place int) {
	b.tags.Store(b.tags.Load() &^ (0xff << (8 * place))) //nolint:mnd // bits of a byte
	b.entries[place].Store(nil)
	s.count.Add(-1)
}

// evict lets one entry go: of the bucket of hash, or of those after it if all in
// there were used, or none are.
func (s *shard) evict(buckets []bucket, hash uint64) {
	var last *bucket
	for i := range uint64(len(buckets)) {
		b := &buckets[(hash+i)&uint64(len(buckets)-1)]
		if b.tags.Load() == 0 {
			continue
		}
		if place, unused := s.idle(b); unused {
			s.remove(b, place)
			return
		}
		if last = b; i >= maxLooked {
			break
		}
	}
	if last != nil {
		place, _ := s.idle(last) // all are marked as unused by now
		s.remove(last, place)
	}
}

// idle is the place of an entry that was not used since the last look; false: all
// were, and it is that of any.
func (s *shard) idle(b *bucket) (place int, unused bool) {
	for range places {
		s.hand++
		if e := b.entries[s.hand%places].Load(); e != nil {
			place = int(s.hand % places)
			if !e.used.Swap(false) {
				return place, true
			}
		}
	}
	return place, false
}

// grow doubles the shard. Readers see the old buckets until the new ones are whole.
func (s *shard) grow(c *cache, old []bucket) []bucket {
	buckets := make([]bucket, 2*len(old))
	for i := range old {
		for j := range old[i].entries {
			e := old[i].entries[j].Load()
			if e == nil {
				continue
			}
			// Half of a bucket's entries at most come from each of the old ones: they fit.
			k := e.key()
			hash := c.hash(&k)
			buckets[hash&uint64(len(buckets)-1)].add(e, tagOf(hash))
		}
	}
	s.buckets.Store(&buckets)
	return buckets
}

// clear lets everything go.
func (c *cache) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.writing.Lock()
		s.buckets.Store(new(make([]bucket, 1)))
		s.count.Store(0)
		s.writing.Unlock()
	}
}

func (c *cache) len() int {
	sum := int64(0)
	for i := range c.shards {
		sum += c.shards[i].count.Load()
	}
	return int(sum)
}
