package authz

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func cacheKeyOf(i int) cacheKey {
	return cacheKey{policies.AccountID(fmt.Sprint("s", i%97)), fmt.Sprint("e", i), uint8(i % int(kindUnknown))}
}

// tells is an entry that tells which key it is of, in all of its parts.
func tells(k *cacheKey, held uint64) *entry {
	whole := fmt.Sprint(k.kind, k.subject, " ", k.id)
	return &entry{
		permissions: Permissions{common: &common{level: policies.Level(whole)}, owner: newText(nil, policies.AccountID(whole)), since: int64(held)},
		revision:    policies.Revision(held), held: held,
	}
}

// use is a hit at the first root; false: there is none, and so it is if what was found
// is another key's.
func use(t *testing.T, c *cache, k *cacheKey) bool {
	t.Helper()
	found, ok := c.find(&root{number: 1}, k, int64(time.Hour))
	want := fmt.Sprint(k.kind, k.subject, " ", k.id)
	return ok && assert.Equal(t, want, string(found.level)) && assert.Equal(t, want, string(found.owner.string()))
}

// keeps puts an entry of k, and once more if room had to be made of many, which others do
// not wait for: then it tells so.
func keeps(c *cache, k *cacheKey) (again bool) {
	c.put(k, tells(k, 1))
	c.writing.Lock() // until room is made
	p := c.inForce.Load()
	_, head := p.find(c.hash(k), k)
	c.writing.Unlock()
	if head == 0 {
		c.put(k, tells(k, 1))
	}
	return head == 0
}

// What is put is found until the limit is met, through all growing; then something
// goes for whatever comes.
func TestCacheKeepsUpToItsLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 100, 5000, 20_000} {
		c, again := newCache(limit), 0
		keep := func(k *cacheKey) {
			if keeps(c, k) {
				again++
			}
		}
		for i := range limit / 2 {
			k := cacheKeyOf(i)
			keep(&k)
		}
		require.Equal(t, limit/2, c.len())
		for i := range limit / 2 {
			k := cacheKeyOf(i)
			require.True(t, use(t, c, &k), "nothing goes below the limit: %d", limit)
		}
		for i := range 3 * limit {
			k := cacheKeyOf(i)
			keep(&k)
			require.LessOrEqual(t, c.len(), limit)
			require.True(t, use(t, c, &k), "what came last is there")
		}
		require.GreaterOrEqual(t, c.len(), limit*9/10)
		require.Equal(t, limit > many, again > 0, "room is made of many aside: %d of %d", again, limit)
		require.Less(t, again, 40)
		c.clear()
		require.Zero(t, c.len())
		k := cacheKeyOf(limit)
		require.False(t, use(t, c, &k))
	}
}

// Nobody waits while room is made of many, and nobody's answer is kept then.
func TestCacheMakesRoomAside(t *testing.T) {
	t.Parallel()
	c, k, done := newCache(10), cacheKeyOf(1), make(chan struct{})
	c.writing.Lock()
	c.busy.Store(true)
	go func() {
		defer close(done)
		c.put(&k, tells(&k, 1))
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("it waits")
	}
	c.busy.Store(false)
	c.writing.Unlock()
	<-done
	require.False(t, use(t, c, &k))
	c.put(&k, tells(&k, 1))
	require.True(t, use(t, c, &k))
}

// What is used stays, while others that are not come and go.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	const limit, used = 1000, 100
	c := newCache(limit)
	kept := 0
	for i := range 10 * limit {
		k := cacheKeyOf(i)
		c.put(&k, tells(&k, 1))
		if i >= used {
			k = cacheKeyOf(i % used)
			use(t, c, &k)
		}
	}
	for i := range used {
		k := cacheKeyOf(i)
		if use(t, c, &k) {
			kept++
		}
	}
	require.GreaterOrEqual(t, kept, used*3/4)
}

// An entry of a later root is not replaced by one of an earlier.
func TestCacheKeepsTheLater(t *testing.T) {
	t.Parallel()
	c := newCache(10)
	k := cacheKeyOf(1)
	for _, number := range []uint64{3, 5, 4} {
		c.put(&k, tells(&k, number))
	}
	p := c.inForce.Load()
	at, head := p.find(c.hash(&k), &k)
	require.Equal(t, uint64(5), head>>1)
	require.Equal(t, policies.Revision(5), p.rests[at].revision)
	require.Equal(t, 1, c.len())
}

// What is found anew, or under new names, takes no more room than what is there.
func TestCacheRoomIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 100
	c := newCache(limit)
	for i := range 20_000 {
		k := cacheKeyOf(i % 50)
		c.put(&k, tells(&k, uint64(i+1)))
		if i%20 == 0 {
			k = cacheKeyOf(i)
			c.put(&k, tells(&k, uint64(i+1)))
		}
	}
	for i := range 5 * limit {
		k := cacheKey{policies.AccountID(strings.Repeat("s", 100) + fmt.Sprint(i)), strings.Repeat("é", 100) + fmt.Sprint(i), kindGroup}
		c.put(&k, tells(&k, 1))
		require.True(t, use(t, c, &k))
	}
	p := c.inForce.Load()
	require.LessOrEqual(t, len(p.slots), 2*limit)
	require.LessOrEqual(t, len(p.kinds), 3*limit)
	require.LessOrEqual(t, len(p.names), 12*nameBytes*limit)
	require.LessOrEqual(t, len(c.index), len(p.names))
}

// What was computed later than now is not used: the clock went back.
func TestCacheKnowsWhenItWasComputed(t *testing.T) {
	t.Parallel()
	c := newCache(10)
	early, late := cacheKeyOf(1), cacheKeyOf(2)
	c.put(&late, tells(&late, 20))
	c.put(&early, tells(&early, 10))
	for now, want := range map[int64][2]bool{9: {false, false}, 10: {true, false}, 19: {true, false}, 20: {true, true}} {
		_, first := c.find(&root{number: 10}, &early, now)
		_, second := c.find(&root{number: 20}, &late, now)
		require.Equal(t, want, [2]bool{first, second}, now)
	}
}

// Keys are told apart, however like they are; and a hit waits for one cache line of
// all slots.
func TestCacheTellsKeysApart(t *testing.T) {
	t.Parallel()
	require.Equal(t, uintptr(32), unsafe.Sizeof(slot{}))
	for _, ids := range [][2]string{{"s", "e"}, {"s", strings.Repeat("e", 62)}, {strings.Repeat("s", 32), strings.Repeat("e", 32)}, {strings.Repeat("s", 128), strings.Repeat("é", 64)}} {
		c := newCache(100)
		k := cacheKey{policies.AccountID(ids[0]), ids[1], kindGroup}
		c.put(&k, tells(&k, 1))
		require.True(t, use(t, c, &k))
		p := c.inForce.Load()
		for _, other := range []cacheKey{
			{k.subject, k.id, kindGroups}, {k.subject + "x", k.id, k.kind}, {k.subject, k.id[1:], k.kind}, {"x" + k.subject[1:], k.id, k.kind},
			{k.subject, k.id[:len(k.id)-1] + "x", k.kind}, {k.subject + policies.AccountID(k.id[:1]), k.id[1:], k.kind},
		} {
			_, head := p.find(c.hash(&k), &other) // as if their hashes were one
			require.Zero(t, head)
			c.put(&other, tells(&other, 1))
			require.True(t, use(t, c, &other))
		}
		require.True(t, use(t, c, &k))
	}
}

// Readers meet nothing but what was put, whole, whoever writes meanwhile.
func TestCacheNeverGivesAnotherKey(t *testing.T) {
	t.Parallel()
	c := newCache(300)
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			dice := rand.New(rand.NewPCG(1, uint64(w)))
			for range 20_000 {
				k := cacheKeyOf(dice.IntN(600))
				if dice.IntN(3) == 0 {
					c.put(&k, tells(&k, 1))
				} else if use(t, c, &k); t.Failed() {
					return
				}
				if dice.IntN(5000) == 0 {
					c.clear()
				}
			}
		})
	}
	wait.Wait()
	require.LessOrEqual(t, c.len(), 300)
}
