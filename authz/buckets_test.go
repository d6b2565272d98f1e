package authz

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func cacheKeyOf(i int) cacheKey {
	return cacheKey{policies.AccountID(fmt.Sprint("s", i%97)), fmt.Sprint("e", i), uint8(i % int(kindUnknown))}
}

// What is put is found until the limit is met, through all growing; then something
// goes for whatever comes.
func TestCacheKeepsUpToItsLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 100, 5000, 20_000} {
		c := newCache(limit)
		found := 0
		for i := range limit / 2 {
			c.put(new(cacheKeyOf(i)), &entry{})
		}
		for i := range limit / 2 {
			k := cacheKeyOf(i)
			if e := c.get(&k); e != nil {
				require.Equal(t, k, e.key())
				found++
			}
		}
		require.Equal(t, found, c.len())
		require.GreaterOrEqual(t, found, limit/2*999/1000, "nothing goes below the limit: %d", limit)
		for i := range 3 * limit {
			c.put(new(cacheKeyOf(i)), &entry{})
			require.LessOrEqual(t, c.len(), limit)
			k := cacheKeyOf(i)
			require.NotNil(t, c.get(&k), "what came last is there")
		}
		require.GreaterOrEqual(t, c.len(), limit*9/10)
		c.clear()
		require.Zero(t, c.len())
		k := cacheKeyOf(limit)
		require.Nil(t, c.get(&k))
	}
}

// What is used stays, while others that are not come and go.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	const limit, used = 1000, 100
	c := newCache(limit)
	kept := 0
	for i := range used {
		c.put(new(cacheKeyOf(i)), &entry{})
	}
	for i := used; i < 10*limit; i++ {
		c.put(new(cacheKeyOf(i)), &entry{})
		k := cacheKeyOf(i % used)
		c.get(&k)
	}
	for i := range used {
		k := cacheKeyOf(i)
		if c.get(&k) != nil {
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
		e := &entry{}
		e.held.Store(number)
		c.put(&k, e)
	}
	require.Equal(t, uint64(5), c.get(&k).held.Load())
	require.Equal(t, 1, c.len())
}

// A hit waits for two cache lines of an entry, and for no more if the ids are short.
func TestEntryIsTwoCacheLines(t *testing.T) {
	t.Parallel()
	require.Equal(t, uintptr(128), unsafe.Sizeof(entry{}))
	for _, ids := range [][2]string{{"s", "e"}, {"s", strings.Repeat("e", 62)}, {strings.Repeat("s", 32), strings.Repeat("e", 32)}, {strings.Repeat("s", 128), strings.Repeat("é", 64)}} {
		for _, owner := range []policies.AccountID{"", "o", policies.AccountID(strings.Repeat("o", 60)), policies.AccountID(strings.Repeat("o", 128))} {
			k := cacheKey{policies.AccountID(ids[0]), ids[1], kindGroup}
			e := &entry{permissions: Permissions{owner: newText(nil, owner)}}
			e.setKey(&k)
			require.Equal(t, k, e.key())
			require.Equal(t, owner, e.permissions.Owner())
			require.True(t, e.is(&k))
			for _, other := range []cacheKey{
				{k.subject, k.id, kindGroups}, {k.subject + "x", k.id, k.kind}, {k.subject, k.id[1:], k.kind}, {"x" + k.subject[1:], k.id, k.kind},
				{k.subject, k.id[:len(k.id)-1] + "x", k.kind}, {k.subject + policies.AccountID(k.id[:1]), k.id[1:], k.kind},
			} {
				require.False(t, e.is(&other))
			}
		}
	}
}

// Keys that share a tag and a bucket are told apart, whoever writes meanwhile.
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
					c.put(&k, &entry{})
				} else if e := c.get(&k); e != nil && !assert.Equal(t, k, e.key()) {
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
