package authz

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

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
			c.put(&entry{key: cacheKeyOf(i)})
		}
		for i := range limit / 2 {
			k := cacheKeyOf(i)
			if e := c.get(&k); e != nil {
				require.Equal(t, k, e.key)
				found++
			}
		}
		require.Equal(t, found, c.len())
		require.GreaterOrEqual(t, found, limit/2*999/1000, "nothing goes below the limit: %d", limit)
		for i := range 3 * limit {
			c.put(&entry{key: cacheKeyOf(i)})
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
		c.put(&entry{key: cacheKeyOf(i)})
	}
	for i := used; i < 10*limit; i++ {
		c.put(&entry{key: cacheKeyOf(i)})
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
		c.put(&entry{key: k, number: number})
	}
	require.Equal(t, uint64(5), c.get(&k).number)
	require.Equal(t, 1, c.len())
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
					c.put(&entry{key: k})
				} else if e := c.get(&k); e != nil && !assert.Equal(t, k, e.key) {
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
