package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// open is a fixture on a fresh database with a clock of its own.
func open(t *testing.T) *fixture {
	t.Helper()
	c := newClock()
	return newFixture(t, storetest.New(t, store.Options{Clock: c.Now}), c)
}

func TestPutAccount(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	mia := policies.Account{ID: "mia", Email: " Mia@example.com", DisplayName: "Mia"}
	created, err := s.PutAccount(t.Context(), call(), mia)
	require.NoError(t, err)
	require.True(t, created.Created)
	require.True(t, created.Changed)
	require.Equal(t, policies.Revision(2), created.Revision, "1 put the policy in force")
	require.Equal(t, "Mia@example.com", created.Value.Email)

	same, err := s.PutAccount(t.Context(), call(), mia)
	require.NoError(t, err)
	require.False(t, same.Changed)
	require.Equal(t, created.ETag, same.ETag)
	require.Equal(t, created.Revision, same.Revision)

	found, err := s.FindAccountByEmail(t.Context(), "mIA@EXAMPLE.com")
	require.NoError(t, err)
	require.Equal(t, created.Value, found.Value)
	require.Equal(t, created.ETag, found.ETag)

	_, err = s.PutAccount(t.Context(), call(), policies.Account{ID: "max", Email: "MIA@example.com"})
	requireTaken(t, err, "email")
	_, err = s.PutAccount(t.Context(), call(), policies.Account{ID: "-", Email: "x"})
	var invalid *policies.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Errors, 2, "all at once")
	_, err = s.GetAccount(t.Context(), "nobody")
	requireNotFound(t, err, "account")
	_, err = s.DeleteAccount(t.Context(), call(), "nobody")
	requireNotFound(t, err, "account")
	requireSound(t, s)
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	put := func(ifMatch, name string) (store.Result[policies.Account], error) {
		c := call()
		c.IfMatch = ifMatch
		return s.PutAccount(t.Context(), c, policies.Account{ID: "mia", Email: "mia@example.com", DisplayName: name})
	}
	var lost *policies.PreconditionError
	_, err := put("*", "one")
	require.ErrorAs(t, err, &lost, "there is nothing to match")
	require.Empty(t, lost.ETag)
	one, err := put("", "one")
	require.NoError(t, err)
	two, err := put(one.ETag, "two")
	require.NoError(t, err)
	_, err = put(one.ETag, "three")
	require.ErrorAs(t, err, &lost)
	require.Equal(t, two.ETag, lost.ETag)
	_, err = put("*", "four")
	require.NoError(t, err)
	requireSound(t, s)
}

func TestDeleteAccountTakesAllItHas(t *testing.T) {
	t.Parallel()
	f := open(t)
	mine := f.member("mia", grant("environment", "e1", "viewer"), grant("groups", "owner", "dev"))
	f.invite("nobody@example.com")
	// owner is a member of other, and has an invitation from max.
	for _, id := range []policies.AccountID{"other", "max"} {
		_, err := f.Invite(t.Context(), call(), id, store.Invitation{Email: "owner@example.com"})
		require.NoError(t, err)
	}
	list, err := f.ListCollaborations(t.Context(), owner, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: owner}}, list.Items[0].Value.ID)
	require.NoError(t, err)

	deleted, err := f.DeleteAccount(t.Context(), call(), owner)
	require.NoError(t, err)
	require.True(t, deleted.Changed)
	_, err = f.GetMember(t.Context(), owner, mine)
	requireNotFound(t, err, "member")
	for _, item := range list.Items {
		members, err := f.ListMembers(t.Context(), item.Value.Owner.ID, store.MemberFilter{}, store.Page{})
		require.NoError(t, err)
		require.Len(t, members.Items, 1)
		require.Equal(t, policies.StatusRemoved, members.Items[0].Value.Status)
		require.Nil(t, members.Items[0].Value.Account)
		require.Equal(t, "owner@example.com", members.Items[0].Value.Email)
	}
	// Made again, it starts from nothing.
	f.account(owner, "owner@example.com")
	list, err = f.ListCollaborations(t.Context(), owner, store.Page{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
	groups, err := f.ListGroups(t.Context(), owner, nil, store.Page{})
	require.NoError(t, err)
	require.Empty(t, groups.Items)
	requireSound(t, f.Store)
}

func TestInvitationsFollowTheAddress(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.invite("New@example.com", grant("environment", "e1", "viewer"))
	require.Nil(t, f.get(id).Account)
	f.account("new", "new@Example.com")
	require.Equal(t, new(policies.AccountID("new")), f.get(id).Account)
	// The account gives its address up, and another one takes it.
	f.account("new", "old@example.com")
	require.Nil(t, f.get(id).Account)
	f.account("newer", "new@example.com")
	require.Equal(t, new(policies.AccountID("newer")), f.get(id).Account)
	_, err := f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "new"}}, id)
	requireNotFound(t, err, "collaboration")
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "newer"}}, id)
	require.NoError(t, err)
	// Accepted, it follows the account.
	f.account("newer", "newest@example.com")
	require.Equal(t, "newest@example.com", f.get(id).Email)
	f.account("new", "new@example.com")
	require.Equal(t, new(policies.AccountID("newer")), f.get(id).Account)
	// The address belongs to another account than the record's: a new record.
	_, err = f.Leave(t.Context(), call(), "newer", id)
	require.NoError(t, err)
	second := f.invite("new@example.com")
	require.NotEqual(t, id, second)
	require.Empty(t, f.get(second).Grants)
	require.Len(t, f.get(id).Grants, 1)
	requireSound(t, f.Store)
}

func TestInvitationsThatBecomeMoot(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.member("mia")
	second, third, fourth := f.invite("second@example.com"), f.invite("third@example.com"), f.invite("fourth@example.com")
	// mia is a member already, and the owner is not its own member.
	f.account("mia", "second@example.com")
	require.Equal(t, policies.StatusRemoved, f.get(second).Status)
	require.Nil(t, f.get(second).Account)
	f.account(owner, "third@example.com")
	require.Equal(t, policies.StatusRemoved, f.get(third).Status)
	// A removed record gives way to a live one of the same account.
	gone := f.member("max")
	_, err := f.RemoveMember(t.Context(), call(), owner, gone)
	require.NoError(t, err)
	require.Equal(t, new(policies.AccountID("max")), f.get(gone).Account)
	f.account("max", "fourth@example.com")
	require.Equal(t, new(policies.AccountID("max")), f.get(fourth).Account)
	require.Nil(t, f.get(gone).Account)
	requireSound(t, f.Store)
}
