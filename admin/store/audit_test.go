package store_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	f := open(t)
	since := f.clock.Now()
	f.clock.Advance(time.Hour)
	c := store.Call{Actor: store.Actor{Token: "token-x", TokenName: "Deploy", Account: owner, Address: "192.0.2.7", RequestID: "request-1"}}
	invited, err := f.Invite(t.Context(), c, owner, store.Invitation{Email: "mia@example.com", Grants: []policies.Grant{grant("environment", "e1", "viewer")}})
	require.NoError(t, err)
	id := invited.Value.ID
	list, err := f.Audit(t.Context(), store.AuditFilter{Owner: owner, Since: since.Add(time.Minute)}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	invitation := regexp.MustCompile(`"invitation":"(invitation-[a-z2-7]{24})"`).FindSubmatch(list.Items[0].After)
	require.NotNil(t, invitation, "%s", list.Items[0].After)
	require.Equal(t, store.Entry{
		Revision: invited.Revision, Time: f.clock.Now(), Actor: c.Actor, Action: "member.invite", Kind: policies.KindMember, Owner: owner, ID: string(id),
		Before: []byte("null"),
		After: []byte(`{"account":"mia","bound":false,"display_name":"","email":"mia@example.com","invitation":"` + string(invitation[1]) + `",` +
			`"invitation_expires_at":"2026-01-09T04:04:05Z","member_display_name":"","status":"pending"}`),
	}, list.Items[0])
	require.Equal(t, store.Entry{
		Revision: invited.Revision, Ordinal: 1, Time: f.clock.Now(), Actor: c.Actor, Action: "member.invite", Kind: policies.KindGrant, Owner: owner,
		ID: string(id) + "/environment/e1", Before: []byte("null"), After: []byte(`{"expires_at":null,"roles":["viewer"]}`),
	}, list.Items[1])

	count := func(filter store.AuditFilter) int {
		n := 0
		for page := (store.Page{Limit: 3}); ; {
			list, err := f.Audit(t.Context(), filter, page)
			require.NoError(t, err)
			for i, e := range list.Items {
				if i > 0 {
					before := list.Items[i-1]
					inOrder := before.Revision < e.Revision || before.Revision == e.Revision && before.Ordinal < e.Ordinal
					require.NotEqual(t, filter.Descending, inOrder)
				}
			}
			n += len(list.Items)
			if page.Cursor = list.NextCursor; page.Cursor == "" {
				return n
			}
		}
	}
	require.Equal(t, 2, count(store.AuditFilter{Actor: "token-x"}))
	require.Equal(t, 2, count(store.AuditFilter{Actor: "owner", Descending: true}))
	require.Equal(t, 2, count(store.AuditFilter{Member: id, Owner: owner, Descending: true}))
	require.Equal(t, 2, count(store.AuditFilter{Action: "member.invite"}))
	require.Equal(t, 1, count(store.AuditFilter{ID: "g1"}))
	require.Equal(t, count(store.AuditFilter{}), count(store.AuditFilter{Descending: true}))
	require.Equal(t, 10, count(store.AuditFilter{Owner: owner, Until: since.Add(time.Minute), Descending: true})+
		count(store.AuditFilter{Owner: "mia", Until: since.Add(time.Minute)}), "the fixture's")
	var bad *store.CursorError
	_, err = f.Audit(t.Context(), store.AuditFilter{}, store.Page{Cursor: "x"})
	require.ErrorAs(t, err, &bad)
	_, err = f.Changes(t.Context(), 0, 10)
	require.NoError(t, err)
}

// Nothing can be changed in the log, but that data of persons can be erased.
func TestTheLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: url})
	_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "mia", Email: "mia@example.com", DisplayName: "Mia"})
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, sql := range []string{
		"delete from revisions", "delete from changes", "truncate revisions", "truncate changes",
		"update revisions set action = 'x'", "update revisions set address = 'x'", "update changes set after = 'x'", "update changes set personal = 'x'",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "append-only", sql)
	}
	_, err = conn.Exec(t.Context(), "update changes set personal = null, personal_salt = null")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "update revisions set address = null, address_salt = null")
	require.NoError(t, err)
	list, err := s.Audit(t.Context(), store.AuditFilter{Owner: "mia"}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, "{}", string(list.Items[0].After))
	require.Empty(t, list.Items[0].Actor.Address)
	requireSound(t, s)
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := call()
	c.IdempotencyKey, c.RequestHash = "key", "one"
	end := f.clock.Now().Add(time.Hour)
	g := grant("group", "g1", "viewer")
	g.ExpiresAt = &end
	first, err := f.Invite(t.Context(), c, owner, store.Invitation{Email: "mia@example.com", Grants: []policies.Grant{g}})
	require.NoError(t, err)
	second, err := f.Invite(t.Context(), c, owner, store.Invitation{Email: "mia@example.com", Grants: []policies.Grant{g}})
	require.NoError(t, err)
	require.True(t, second.Replayed)
	second.Replayed = false
	require.Equal(t, first, second)
	other := c
	other.RequestHash = "two"
	var used *store.IdempotencyError
	_, err = f.Suspend(t.Context(), other, owner, first.Value.ID)
	require.ErrorAs(t, err, &used)
	someoneElse := other
	someoneElse.Token = "another"
	_, err = f.Suspend(t.Context(), someoneElse, owner, first.Value.ID)
	requireState(t, err, policies.StatusPending, policies.EventSuspend)

	// A write that changed nothing is repeated as such, whatever has changed since.
	c.IdempotencyKey = "defaults"
	for _, changed := range []bool{true, false} {
		c.IdempotencyKey += "+"
		r, err := f.MakeDefaultRoles(t.Context(), c, owner)
		require.NoError(t, err)
		require.Equal(t, changed, r.Changed)
	}
	again, err := f.MakeDefaultRoles(t.Context(), c, owner)
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.False(t, again.Changed)
	requireSound(t, f.Store)
}
