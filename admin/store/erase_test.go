package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// An account goes, and nothing of the person is left anywhere; the chain holds.
func TestErase(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	c := newClock()
	f := newFixture(t, storetest.New(t, store.Options{URL: url, Clock: c.Now}), c)
	f.account("zoe", "Zoe.First@example.com")
	f.account("zoe", "zoe.second@example.com")
	by := store.Call{Actor: store.Actor{Token: "token-x", Account: "zoe", Address: "192.0.2.77"}}
	// A member of others: once bound to the account, once by an address that it had.
	for _, o := range []policies.AccountID{owner, "other"} {
		invited, err := f.Invite(t.Context(), call(), o, store.Invitation{Email: "zoe.second@example.com", DisplayName: new("Zoe the Tester")})
		require.NoError(t, err)
		if o == owner {
			_, err = f.Accept(t.Context(), by, store.Acceptor{Account: policies.Account{ID: "zoe"}}, invited.Value.ID)
			require.NoError(t, err)
		}
	}
	_, err := f.Invite(t.Context(), by, "zoe", store.Invitation{Email: "max@example.com"})
	require.NoError(t, err)
	var used *policies.InUseError
	_, err = f.Erase(t.Context(), call(), "zoe")
	require.ErrorAs(t, err, &used, "it is there still")
	_, err = f.DeleteAccount(t.Context(), call(), "zoe")
	require.NoError(t, err)
	head, err := f.Head(t.Context())
	require.NoError(t, err)

	done, err := f.Erase(t.Context(), call(), "zoe")
	require.NoError(t, err)
	require.Equal(t, head.Revision+1, done.Revision)
	require.Positive(t, done.Entries)
	require.EqualValues(t, 2, done.Addresses)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, table := range []string{"revisions", "changes", "collaborations", "accounts"} {
		var left int
		require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from "+table+" t where t::text ~* 'zoe\\.|zoe the|192\\.0\\.2\\.77'").Scan(&left))
		require.Zero(t, left, table)
	}
	report := verify(t, f.Store, head)
	require.Nil(t, report.Broken)
	require.EqualValues(t, done.Entries+done.Addresses, report.Erased)
	list, err := f.Audit(t.Context(), store.AuditFilter{Owner: "zoe", Descending: true}, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "audit.erase", list.Items[0].Action)
	members, err := f.ListMembers(t.Context(), owner, store.MemberFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, store.ErasedEmail, members.Items[0].Value.Email)

	// Others' data stays, and a second time does no harm.
	var others int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from changes where personal like '%max@example.com%'").Scan(&others))
	require.Positive(t, others)
	_, err = f.Erase(t.Context(), call(), "zoe")
	require.NoError(t, err)
	requireSound(t, f.Store)
}
