package authz

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// answerAt is what mia may start at a revision: the writers below see to it.
func answerAt(r policies.Revision) (policies.Reason, policies.Level) {
	switch r.Count() % 4 {
	case 0:
		return policies.ReasonActionNotGranted, policies.LevelDirect
	case 1:
		return policies.ReasonGranted, policies.LevelDirect
	case 2:
		return policies.ReasonNotShared, ""
	default:
		return policies.ReasonCollaborationSuspended, ""
	}
}

// objectsAt make the answer of revision r true, on both environments.
func objectsAt(tb testing.TB, r policies.Revision) []policies.Object {
	tb.Helper()
	status, role := policies.StatusActive, policies.RoleID("viewer")
	switch r.Count() % 4 {
	case 1:
		role = "starter"
	case 2:
		role = ""
	case 3:
		status = policies.StatusSuspended
	default:
	}
	id := memberID("owner", "mia")
	objects := []policies.Object{object(tb, policies.KindMember, "owner", string(id), policies.MemberBody{Account: new(policies.AccountID("mia")), Status: status})}
	for _, environment := range []string{"app", "db"} {
		key := policies.GrantKey{Member: id, Resource: policies.Resource{Type: policies.TypeEnvironment, ID: environment}}
		if role == "" {
			objects = append(objects, object(tb, policies.KindGrant, "owner", key.String(), nil))
		} else {
			objects = append(objects, object(tb, policies.KindGrant, "owner", key.String(), policies.GrantBody{Roles: []policies.RoleID{role}}))
		}
	}
	return objects
}

// Under 8 writers and 8 readers no answer is of two revisions, none is older than
// what was acknowledged before the question, and no revision goes back.
func TestNoStaleOrMixedAnswers(t *testing.T) {
	t.Parallel()
	const changes = 1200
	ctx := context.Background()
	e := companyEngine(t, Options{}, nil)
	var writing sync.Mutex // the chain has one end
	var acknowledged, epochs atomic.Uint64
	write := func() bool {
		writing.Lock()
		defer writing.Unlock()
		s := e.State()
		next := s.Revision() + 1
		if epochs.Load() == 0 && next > changes/2 {
			epochs.Add(1)
			next = policies.NewRevision(1, 1)
		}
		if next.Epoch() == 1 && next.Count() > changes/2 {
			return false
		}
		c := changeAt(t, s, next, objectsAt(t, next)...)
		if next.Count()%100 != 7 {
			if err := e.Apply(ctx, c); err != nil {
				t.Errorf("apply revision %d: %v", next, err)
				return false
			}
		} else { // the same, as a snapshot
			applied, err := s.Apply(ctx, c)
			if assert.NoError(t, err) {
				assert.NoError(t, e.Reset(applied))
			}
		}
		acknowledged.Store(uint64(next))
		return !t.Failed()
	}
	require.True(t, write()) // now all is as answerAt says

	var done atomic.Bool
	var writers, readers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for write() {
			}
		})
	}
	for i := range 8 {
		readers.Go(func() {
			var last policies.Revision
			for !done.Load() && !t.Failed() {
				acked := policies.Revision(acknowledged.Load())
				decisions := ask(t, e, i%2 == 0, acked)
				for _, d := range decisions {
					reason, level := answerAt(d.Revision)
					assert.Equal(t, reason, d.Reason, "at revision %d", d.Revision)
					assert.Equal(t, level, d.Level)
					assert.Equal(t, reason == policies.ReasonGranted, d.Allow)
					assert.Equal(t, decisions[0].Revision, d.Revision)
					assert.GreaterOrEqual(t, d.Revision, max(acked, last))
					last = d.Revision
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	require.Equal(t, policies.NewRevision(1, changes/2), e.State().Revision())
}

// ask asks the same of both environments, in a batch or of one.
func ask(t *testing.T, e *Engine, batch bool, acked policies.Revision) []Decision {
	t.Helper()
	app, db := mayOn("mia", actionStart, "app"), mayOn("mia", actionStart, "db")
	if batch {
		decisions, err := e.Decide(context.Background(), acked, []Question{app, db, app})
		assert.NoError(t, err)
		return decisions
	}
	d, err := e.Check(context.Background(), acked, db)
	assert.NoError(t, err)
	return []Decision{d}
}
