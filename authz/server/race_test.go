package server_test

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// TestNoStaleOrMixedAnswers: while a writer gives and takes a grant, at even and
// odd revisions, every answer is that of the revision that it names, a batch is of
// one, and what was demanded is kept. Run it with -race.
func TestNoStaleOrMixedAnswers(t *testing.T) {
	t.Parallel()
	document := company(t)
	document.Members[0].Grants = nil
	state := newState(t, document)
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	require.NoError(t, engine.Reset(state))
	door := open(t, newAPI(t, engine, server.StateTokens(engine.State)), server.Listener{})

	const last = startRevision + 300
	var member policies.CollaborationID
	for object, err := range state.Objects() {
		require.NoError(t, err)
		if object.Kind == policies.KindMember {
			member = policies.CollaborationID(object.ID)
		}
	}
	key := policies.GrantKey{Member: member, Resource: policies.Resource{Type: policies.TypeEnvironment, ID: "e"}}
	var written atomic.Uint64
	written.Store(uint64(startRevision))
	var work sync.WaitGroup
	work.Go(func() {
		hash := state.Hash()
		for revision := startRevision + 1; revision <= last; revision++ {
			var body any
			if revision%2 == 0 {
				body = policies.GrantBody{Roles: []policies.RoleID{"r"}}
			}
			change := nextChange(t, revision, hash, policies.KindGrant, "olga", key.String(), body)
			hash = change.Hash
			if !noError(t, engine.Apply(context.Background(), change)) {
				return
			}
			written.Store(uint64(revision))
		}
	})
	one := evaluation(t, ask("mia", "acme.Say", "environment", "e"), "")
	batch := `{"evaluations":[` + strings.TrimSuffix(strings.Repeat(one+",", 5), ",") + `]}`
	for range 8 {
		work.Go(func() {
			for seen := startRevision; seen < last; {
				demanded := policies.Revision(written.Load())
				header := []string{server.HeaderMinRevision, demanded.String()}
				got := door.post(t, server.PathEvaluation, one, header...)
				if got.status != http.StatusOK {
					t.Errorf("%d %s", got.status, got.body)
					return
				}
				answers := append(door.post(t, server.PathEvaluations, batch, header...).decisions(t), got.decision(t))
				for i, a := range answers {
					revision := a.Context.Revision
					if a.Decision != (revision%2 == 0) || revision < demanded || i < 5 && revision != answers[0].Context.Revision {
						t.Errorf("decision %v at revision %d, when %d was demanded", a.Decision, revision, demanded)
						return
					}
				}
				seen = answers[0].Context.Revision
			}
		})
	}
	work.Wait()
}

func noError(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// nextChange is the change that makes or deletes one object.
func nextChange(t require.TestingT, revision policies.Revision, previous policies.Hash, kind policies.Kind, owner policies.AccountID, id string, body any) policies.Change {
	object, err := policies.NewObject(kind, owner, id, body)
	require.NoError(t, err)
	objects, err := policies.EncodeObjects([]policies.Object{object})
	require.NoError(t, err)
	return policies.Change{
		Revision: revision, Time: now, Objects: objects,
		Hash: policies.ChainHash(previous, revision, sha256.Sum256(objects), policies.Hash{}),
	}
}
