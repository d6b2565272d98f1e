package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// Two events at the same moment, on two servers: the outcome is that of one after the
// other, the loser gets a conflict, and the log has exactly what was done.
func TestTwoEventsAtOnce(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s, other := storetest.New(t, store.Options{URL: database}), storetest.New(t, store.Options{URL: database})
	_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "own", Email: "own@example.com"})
	require.NoError(t, err)
	type event func(s *store.Store, member policies.AccountID, id policies.CollaborationID) error
	var (
		accept event = func(s *store.Store, m policies.AccountID, id policies.CollaborationID) error {
			_, err := s.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: m}}, id)
			return err
		}
		leave event = func(s *store.Store, m policies.AccountID, id policies.CollaborationID) error {
			_, err := s.Leave(t.Context(), call(), m, id)
			return err
		}
		suspend event = func(s *store.Store, _ policies.AccountID, id policies.CollaborationID) error {
			_, err := s.Suspend(t.Context(), call(), "own", id)
			return err
		}
		remove event = func(s *store.Store, _ policies.AccountID, id policies.CollaborationID) error {
			_, err := s.RemoveMember(t.Context(), call(), "own", id)
			return err
		}
		invite event = func(s *store.Store, m policies.AccountID, _ policies.CollaborationID) error {
			_, err := s.Invite(t.Context(), call(), "own", store.Invitation{Email: string(m) + "@example.com"})
			return err
		}
		move event = func(s *store.Store, m policies.AccountID, _ policies.CollaborationID) error {
			_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: m, Email: string(m) + "@elsewhere.example"})
			return err
		}
	)
	members := 0
	for name, c := range map[string]struct {
		active, none bool // what there is before; else a pending invitation
		a, b         event
		always       event // of the two, which never loses; nil: either may
		status       policies.Status
	}{
		"accept, accept":       {a: accept, b: accept, status: policies.StatusActive},
		"invite, invite":       {none: true, a: invite, b: invite, status: policies.StatusPending},
		"accept, remove":       {a: accept, b: remove, always: remove, status: policies.StatusRemoved},
		"suspend, leave":       {active: true, a: suspend, b: leave, always: leave, status: policies.StatusLeft},
		"accept, email change": {a: accept, b: move, always: move},
	} {
		for range 4 {
			members++
			m := policies.AccountID(fmt.Sprintf("m%d", members))
			_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: m, Email: string(m) + "@example.com"})
			require.NoError(t, err)
			var id policies.CollaborationID
			if !c.none {
				invited, err := s.Invite(t.Context(), call(), "own", store.Invitation{Email: string(m) + "@example.com"})
				require.NoError(t, err)
				id = invited.Value.ID
			}
			if c.active {
				require.NoError(t, accept(s, m, id))
			}
			before, err := s.Head(t.Context())
			require.NoError(t, err)
			var wg sync.WaitGroup
			var errA, errB error
			wg.Go(func() { errA = c.a(s, m, id) })
			wg.Go(func() { errB = c.b(other, m, id) })
			wg.Wait()
			done := 0
			for _, err := range []error{errA, errB} {
				var state *policies.StateError
				var gone *policies.NotFoundError // the record is another address's by now
				if err == nil {
					done++
					continue
				}
				require.True(t, errors.As(err, &state) || errors.As(err, &gone), "%s: %v", name, err)
			}
			after, err := s.Head(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, done, after.Revision-before.Revision, "%s: the log has what was done", name)
			require.NotZero(t, done, name)
			if c.always == nil {
				require.Equal(t, 1, done, name)
			} else {
				require.NoError(t, errB, name)
			}
			if c.status == "" {
				continue
			}
			found := 0
			list, err := s.ListMembers(t.Context(), "own", store.MemberFilter{Search: string(m) + "@example"}, store.Page{})
			require.NoError(t, err)
			for _, item := range list.Items {
				require.Equal(t, c.status, item.Value.Status, name)
				found++
			}
			require.Equal(t, 1, found, name)
		}
	}
	requireSound(t, s)
}
