package admin

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// Recent changes follow one another, or are not there: then the log is read.
func TestRecentChangesFollow(t *testing.T) {
	t.Parallel()
	r := &recent{}
	after := func(revision policies.Revision, limit int) (revisions []policies.Revision) {
		for _, c := range r.after(revision, limit) {
			revisions = append(revisions, c.Revision)
		}
		return revisions
	}
	add := func(revision policies.Revision, size int) {
		r.add(policies.Change{Revision: revision, Objects: make(jsontext.Value, size)})
	}
	for revision := range policies.Revision(maxRecent + 2) {
		add(revision+1, 10)
	}
	require.Empty(t, after(0, 10))
	require.Empty(t, after(1, 10), "the oldest make room")
	require.Equal(t, []policies.Revision{3, 4}, after(2, 2))
	require.Equal(t, []policies.Revision{maxRecent + 2}, after(maxRecent+1, 10))
	require.Empty(t, after(maxRecent+2, 10))

	add(maxRecent+3, maxRecentChange+1)
	require.Empty(t, after(2, 10), "what comes before a change that is not kept")
	require.Empty(t, after(maxRecent+2, 10))
	add(maxRecent+4, 10)
	epoch := policies.NewRevision(1, 1)
	add(epoch, 10)
	require.Empty(t, after(maxRecent+3, 10), "of another epoch")
	require.Equal(t, []policies.Revision{epoch}, after(epoch-1, 10))
	r.clear()
	require.Empty(t, after(epoch-1, 10))
}
