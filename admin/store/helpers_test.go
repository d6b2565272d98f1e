package store_test

import (
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// call is a write of a service, as REST would make it.
func call() store.Call {
	return store.Call{Actor: store.Actor{Token: "token-t", TokenName: "test", Address: "192.0.2.1"}}
}

// objectID is what an object is known by on the whole platform.
type objectID struct {
	kind  policies.Kind
	owner policies.AccountID
	id    string
}

// snapshot is the platform's objects and head.
func snapshot(t *testing.T, s *store.Store) (store.Header, map[objectID]string) {
	t.Helper()
	objects := map[objectID]string{}
	var at store.Header
	require.NoError(t, s.Snapshot(t.Context(), func(header store.Header, all iter.Seq2[policies.Object, error]) error {
		at = header
		for o, err := range all {
			if err != nil {
				return err
			}
			id := objectID{o.Kind, o.Owner, o.ID}
			_, twice := objects[id]
			require.False(t, twice, "an object stands twice: %v", id)
			objects[id] = string(o.Body)
		}
		return nil
	}))
	return at, objects
}

// replay walks the whole log, verifies the chain, and applies all objects.
func replay(t *testing.T, s *store.Store) (store.Header, map[objectID]string) {
	t.Helper()
	objects := map[objectID]string{}
	var at store.Header
	for {
		changes, err := s.Changes(t.Context(), at.Revision, 100)
		require.NoError(t, err)
		if len(changes) == 0 {
			return at, objects
		}
		for _, c := range changes {
			require.NoError(t, c.Follows(at.Revision, at.Hash))
			at.Revision, at.Hash = c.Revision, c.Hash
			touched, err := c.DecodeObjects()
			require.NoError(t, err)
			for _, o := range touched {
				id := objectID{o.Kind, o.Owner, o.ID}
				if o.Deleted() {
					_, there := objects[id]
					require.True(t, there, "revision %d deletes what is not there: %v", c.Revision, id)
					delete(objects, id)
					continue
				}
				require.NotEqual(t, objects[id], string(o.Body), "revision %d touches %v without a change", c.Revision, id)
				objects[id] = string(o.Body)
			}
		}
	}
}

// requireSound checks that the log says what the tables say: same head, same
// objects, an unbroken chain, and an audit entry for each revision.
func requireSound(t *testing.T, s *store.Store) {
	t.Helper()
	header, objects := snapshot(t, s)
	at, replayed := replay(t, s)
	require.Equal(t, header.Revision, at.Revision)
	require.Equal(t, header.Hash, at.Hash)
	require.Equal(t, objects, replayed)
	require.Nil(t, verify(t, s).Broken)
	revisions := map[policies.Revision]bool{}
	for page := (store.Page{Limit: store.MaxPage}); ; {
		list, err := s.Audit(t.Context(), store.AuditFilter{}, page)
		require.NoError(t, err)
		for _, e := range list.Items {
			revisions[e.Revision] = true
		}
		if list.NextCursor == "" {
			break
		}
		page.Cursor = list.NextCursor
	}
	require.Len(t, revisions, int(header.Revision.Count()), "each revision has an audit entry")
}

// clock is a clock that tests move.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Advance(d time.Duration) { c.now = c.now.Add(d) }

// lines are documents as a reader of an import gives them.
func lines(documents ...policies.Document) iter.Seq[policies.DocumentLine] {
	return func(yield func(policies.DocumentLine) bool) {
		for i, d := range documents {
			if !yield(policies.DocumentLine{Line: i + 1, Account: d.Account.ID, Document: d}) {
				return
			}
		}
	}
}
