package authz

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// version is a table, and what it should hold.
type version struct {
	table table[string, int]
	want  map[string]int
}

func (v *version) fork() version { return version{v.table.fork(), maps.Clone(v.want)} }

func (v *version) set(key string, value int) {
	v.table.set(newText(nil, key), value)
	v.want[key] = value
}

func (v *version) remove(key string) {
	v.table.remove(key)
	delete(v.want, key)
}

// Forks of a table never show in what they were forked from, with trees of
// several levels too, while they grow and while they shrink.
func TestTableForks(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(1, 2))
	first := version{want: map[string]int{}}
	for i := range 6000 { // three levels
		first.set(fmt.Sprint(i), i)
	}
	versions := []version{first}
	grow := 9
	for i := range 200 {
		if i == 60 {
			grow = 1 // from here on it shrinks
		}
		from := versions[len(versions)-1]
		if dice.IntN(10) == 0 {
			from = versions[dice.IntN(len(versions))]
		}
		next := from.fork()
		for range dice.IntN(300) {
			key := fmt.Sprint(dice.IntN(20_000))
			if dice.IntN(10) >= grow && len(next.want) > 0 {
				for key = range next.table.all() {
					if dice.IntN(len(next.want)/100+1) == 0 {
						break
					}
				}
				next.remove(key)
				continue
			}
			next.set(key, i)
		}
		versions = append(versions, next)
	}
	largest := 0
	for _, v := range versions {
		require.Equal(t, v.want, maps.Collect(v.table.all()))
		require.Equal(t, len(v.want), v.table.len())
		largest = max(largest, v.table.len())
		for key, want := range v.want {
			got, ok := v.table.get(key)
			require.True(t, ok)
			require.Equal(t, want, got)
			break
		}
		var keys []string
		for key := range v.table.all() {
			keys = append(keys, key)
		}
		require.True(t, slices.IsSorted(keys))
	}
	require.Greater(t, largest, 64*64)
}

// Nor do those of tables with few keys, which are set within the room that they have.
func TestSmallTableForks(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(3, 4))
	versions := []version{{want: map[string]int{}}}
	for i := range 5000 {
		from := versions[dice.IntN(len(versions))]
		next := from.fork()
		for range dice.IntN(6) {
			key := fmt.Sprint(dice.IntN(2 * fewPairs))
			if dice.IntN(3) == 0 {
				next.remove(key)
				continue
			}
			next.set(key, i)
		}
		versions = append(versions, next)
	}
	for _, v := range versions {
		require.Equal(t, v.want, maps.Collect(v.table.all()))
	}
}

// A packed table says the same as before, begins where it is told to, and has room
// for more.
func TestTablePacks(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, fewPairs, fewPairs + 1, nodeSize + 1, 5000} {
		var packed table[string, int]
		want := map[string]int{}
		for i := range size {
			key := fmt.Sprintf("%05d", i*7%size)
			packed.set(newText(nil, key), i)
			want[key] = i
		}
		next := packed.pack()
		require.Zero(t, next.len())
		for i := range size {
			next.set(newText(nil, fmt.Sprintf("%05d", size-i)), -1) // in the room that the first had
		}
		require.Equal(t, size, next.len())
		require.Equal(t, want, maps.Collect(packed.all()))
		require.Equal(t, size, packed.len())
		for _, from := range []int{0, size / 3, size} {
			var keys []string
			for key := range packed.from(fmt.Sprintf("%05d", from)) {
				keys = append(keys, key)
			}
			require.Len(t, keys, size-from)
		}
		after := packed.fork()
		after.set(newText(nil, "x"), 1)
		after.set(newText(nil, "00000!"), 2)
		require.Equal(t, want, maps.Collect(packed.all()))
		require.Equal(t, "x", after.same("x"))
		require.Equal(t, size+2, after.len())
		for key := range want {
			after.remove(key)
		}
		require.Equal(t, map[string]int{"x": 1, "00000!": 2}, maps.Collect(after.all()))
	}
}
