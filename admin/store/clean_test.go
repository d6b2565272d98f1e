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

// Two servers that clean at the same time delete each ended grant once, under a
// revision that the audit shows; no other grant goes with them, and records show no
// change by anybody.
func TestEndedGrantsAreCleanedOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database, Clock: c.Now})
	other := storetest.New(t, store.Options{URL: database, Clock: c.Now})
	_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "owner", Email: "owner@example.com"})
	require.NoError(t, err)
	for _, id := range []policies.RoleID{"r1", "r2"} {
		_, err = s.CreateRole(t.Context(), call(), "owner", policies.Role{ID: id, Name: string(id)})
		require.NoError(t, err)
	}
	soon, late := c.Now().Add(time.Hour), c.Now().Add(100*24*time.Hour)
	grants := func(n int) []policies.Grant {
		both := []policies.RoleID{"r1", "r2"}
		all := []policies.Grant{{Resource: policies.Resource{Type: policies.TypeAccount, ID: "owner"}, Roles: both}}
		ends := []*time.Time{&soon, &late, nil}[n%3]
		all = append(all, policies.Grant{Resource: policies.Resource{Type: policies.TypeEnvironments, ID: "owner"}, Roles: both, ExpiresAt: ends})
		return append(all, policies.Grant{Resource: policies.Resource{Type: policies.TypeGroups, ID: "owner"}, Roles: both, ExpiresAt: &soon})
	}
	before := map[policies.CollaborationID]store.Item[policies.Member]{}
	for i := range 6 {
		invited, err := s.Invite(t.Context(), call(), "owner", store.Invitation{Email: fmt.Sprintf("m%d@example.com", i), Grants: grants(i)})
		require.NoError(t, err)
		before[invited.Value.ID], err = s.GetMember(t.Context(), "owner", invited.Value.ID)
		require.NoError(t, err)
	}
	n, err := s.CleanGrants(t.Context(), c.Now())
	require.NoError(t, err)
	require.Zero(t, n, "nothing has ended")
	head, err := s.Head(t.Context())
	require.NoError(t, err)

	c.Advance(time.Hour)
	var wg sync.WaitGroup
	var counts [4]int
	var errs [4]error
	for i := range counts {
		wg.Go(func() { counts[i], errs[i] = []*store.Store{s, other}[i%2].CleanGrants(t.Context(), c.Now()) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	require.Equal(t, 8, counts[0]+counts[1]+counts[2]+counts[3], "six on groups, two on environments")
	after, err := s.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head.Revision+1, after.Revision, "one revision for all")
	for id, was := range before {
		is, err := s.GetMember(t.Context(), "owner", id)
		require.NoError(t, err)
		require.NotEqual(t, was.ETag, is.ETag)
		require.Equal(t, was.Value.LastChanged, is.Value.LastChanged)
		var kept []policies.Grant
		for _, g := range was.Value.Grants {
			if g.ExpiresAt == nil || c.Now().Before(*g.ExpiresAt) {
				kept = append(kept, g)
			}
		}
		require.Equal(t, kept, is.Value.Grants)
	}
	entries, err := s.Audit(t.Context(), store.AuditFilter{Owner: "owner", Action: "grant.clean"}, store.Page{})
	require.NoError(t, err)
	require.Len(t, entries.Items, 8)
	require.True(t, entries.Items[0].Actor.Local)
	requireSound(t, s)
}
