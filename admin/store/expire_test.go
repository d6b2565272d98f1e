package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// Two servers that end invitations at the same time end each once.
func TestInvitationsExpireOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database, Clock: c.Now})
	other := storetest.New(t, store.Options{URL: database, Clock: c.Now})
	_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "owner", Email: "owner@example.com"})
	require.NoError(t, err)
	for i := range 5 {
		_, err := s.Invite(t.Context(), call(), "owner", store.Invitation{Email: fmt.Sprintf("m%d@example.com", i)})
		require.NoError(t, err)
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	n, err := s.ExpireInvitations(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "nothing is due")

	c.Advance(store.DefaultInvitationTTL)
	var wg sync.WaitGroup
	var counts [4]int
	var errs [4]error
	for i := range counts {
		wg.Go(func() { counts[i], errs[i] = []*store.Store{s, other}[i%2].ExpireInvitations(t.Context()) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	require.Equal(t, 5, counts[0]+counts[1]+counts[2]+counts[3])
	after, err := s.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head.Revision+1, after.Revision, "one revision for all")
	list, err := s.ListMembers(t.Context(), "owner", store.MemberFilter{Statuses: []policies.Status{policies.StatusExpired}}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 5)
	requireSound(t, s)
}

// The limits count what was sent, on all servers together, and nothing else.
func TestInvitationLimits(t *testing.T) {
	t.Parallel()
	c := newClock()
	database := storetest.URL(t)
	options := store.Options{URL: database, Clock: c.Now, InvitationsPerOwner: 4, InvitationsPerAddress: 2}
	s, other := storetest.New(t, options), storetest.New(t, options)
	for _, id := range []policies.AccountID{"o1", "o2", "o3"} {
		_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: id, Email: string(id) + "@example.com"})
		require.NoError(t, err)
	}
	invite := func(s *store.Store, owner policies.AccountID, email string) error {
		_, err := s.Invite(t.Context(), call(), owner, store.Invitation{Email: email})
		return err
	}
	var limit *store.LimitError
	var state *policies.StateError
	require.NoError(t, invite(s, "o1", "mia@example.com"))
	require.ErrorAs(t, invite(s, "o1", "mia@example.com"), &state, "a refused one does not count")
	c.Advance(10 * time.Minute)
	require.NoError(t, invite(other, "o2", "MIA@example.com"))
	require.ErrorAs(t, invite(s, "o3", "mia@example.com"), &limit)
	require.True(t, limit.Address)
	require.Equal(t, 50*time.Minute, limit.Retry)

	require.NoError(t, invite(s, "o1", "a@example.com"))
	require.NoError(t, invite(other, "o1", "b@example.com"))
	require.NoError(t, invite(s, "o1", "c@example.com"))
	require.ErrorAs(t, invite(other, "o1", "d@example.com"), &limit)
	require.False(t, limit.Address)
	c.Advance(50 * time.Minute)
	require.NoError(t, invite(other, "o1", "d@example.com"))
	require.NoError(t, invite(s, "o3", "mia@example.com"))
	require.ErrorAs(t, invite(s, "o1", "e@example.com"), &limit)

	// A clock that is turned back locks nobody out.
	c.Advance(-24 * time.Hour)
	require.NoError(t, invite(s, "o1", "e@example.com"))
}
