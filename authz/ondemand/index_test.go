package ondemand

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
)

// TestIndexNeverForgetsSilently holds the index against a list of all notices: it
// may call a fact forgotten, or touched too late, but never untouched wrongly.
func TestIndexNeverForgetsSilently(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const start = policies.Revision(10)
		x := newIndex(start, rapid.IntRange(1, 8).Draw(t, "limit"))
		type notice struct {
			revision policies.Revision
			names    []touchable
		}
		names := rapid.Custom(func(t *rapid.T) touchable {
			return touchable{kind: kindAccount, id: rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "id")}
		})
		var all []notice
		last := start
		for range rapid.IntRange(0, 20).Draw(t, "notices") {
			last++
			n := notice{last, rapid.SliceOfN(names, 0, 12).Draw(t, "names")}
			all = append(all, n)
			x.touch(n.revision, n.names)
		}
		_, floor := x.size()
		require.GreaterOrEqual(t, floor, start)
		require.LessOrEqual(t, floor, last)
		for date := start - 1; date <= last; date++ {
			for _, id := range []string{"a", "b", "c", "d", "e"} {
				asked := touchable{kind: kindAccount, id: id}
				was := date < start // what was before the index began is not known
				for _, n := range all {
					for _, have := range n.names {
						was = was || (have == asked && n.revision > date)
					}
				}
				switch verdict := x.judge(date, []touchable{asked}); verdict {
				case untouched:
					require.False(t, was, "%s at %d", id, date)
				case touched:
					require.True(t, was)
				case forgotten:
					require.Less(t, date, floor)
				}
			}
		}
	})
}

func TestIndexIsBounded(t *testing.T) {
	t.Parallel()
	x := newIndex(0, 10)
	for r := range policies.Revision(1000) {
		x.touch(r+1, []touchable{{kind: kindSubject, id: r.String()}})
		n, _ := x.size()
		require.LessOrEqual(t, n, 10)
	}
	_, floor := x.size()
	require.Greater(t, floor, policies.Revision(900))
	require.Equal(t, untouched, x.judge(1000, []touchable{{kind: kindSubject, id: "999"}}))
	require.Equal(t, touched, x.judge(999, []touchable{{kind: kindSubject, id: "999"}}))
	require.Equal(t, forgotten, x.judge(1, []touchable{{kind: kindSubject, id: "none"}}))
}

// TestANameOfManyFillsTheIndex is an import of more than it holds.
func TestANoticeLargerThanTheIndex(t *testing.T) {
	t.Parallel()
	x := newIndex(0, 4)
	var names []touchable
	for r := range policies.Revision(100) {
		names = append(names, touchable{kind: kindSubject, id: r.String()})
	}
	x.touch(7, names)
	require.NotEqual(t, untouched, x.judge(6, []touchable{{kind: kindSubject, id: "0"}}))
	require.Equal(t, untouched, x.judge(7, []touchable{{kind: kindSubject, id: "0"}}))
}
