package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// enter brings a fresh record of mia into a status.
func (f *fixture) enter(status policies.Status) policies.CollaborationID {
	f.t.Helper()
	ctx := f.t.Context()
	id := f.invite("mia@example.com", grant("environment", "e1", "viewer"))
	var err error
	switch status {
	case policies.StatusNone, policies.StatusPending:
	case policies.StatusRejected:
		_, err = f.Reject(ctx, call(), "mia", id)
	case policies.StatusExpired:
		f.clock.Advance(store.DefaultInvitationTTL) // by the clock: nobody wrote it down
	case policies.StatusActive:
		_, err = f.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
	case policies.StatusSuspended:
		_, err = f.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
		require.NoError(f.t, err)
		_, err = f.Suspend(ctx, call(), owner, id)
	case policies.StatusLeft:
		_, err = f.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
		require.NoError(f.t, err)
		_, err = f.Leave(ctx, call(), "mia", id)
	case policies.StatusRemoved:
		_, err = f.RemoveMember(ctx, call(), owner, id)
	}
	require.NoError(f.t, err)
	return id
}

// Every pair of state and event does what the table of the life says.
func TestLifeOfACollaboration(t *testing.T) {
	t.Parallel()
	f := open(t)
	events := map[policies.Event]func(policies.CollaborationID) error{
		policies.EventInvite: func(id policies.CollaborationID) error {
			_, err := f.Reinvite(t.Context(), call(), owner, id)
			return err
		},
		policies.EventResend: func(id policies.CollaborationID) error {
			f.clock.Advance(time.Second) // or the end of the invitation stays the same
			_, err := f.Resend(t.Context(), call(), owner, id)
			return err
		},
		policies.EventSuspend: func(id policies.CollaborationID) error {
			_, err := f.Suspend(t.Context(), call(), owner, id)
			return err
		},
		policies.EventActivate: func(id policies.CollaborationID) error {
			_, err := f.Activate(t.Context(), call(), owner, id)
			return err
		},
		policies.EventRemove: func(id policies.CollaborationID) error {
			_, err := f.RemoveMember(t.Context(), call(), owner, id)
			return err
		},
		policies.EventAccept: func(id policies.CollaborationID) error {
			_, err := f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
			return err
		},
		policies.EventReject: func(id policies.CollaborationID) error {
			_, err := f.Reject(t.Context(), call(), "mia", id)
			return err
		},
		policies.EventLeave: func(id policies.CollaborationID) error {
			_, err := f.Leave(t.Context(), call(), "mia", id)
			return err
		},
	}
	for _, status := range policies.Statuses {
		for event, do := range events {
			name := fmt.Sprintf("%s of a %s one", event, status)
			id := f.enter(status)
			stored := f.get(id)
			before, err := f.Head(t.Context())
			require.NoError(t, err)
			want, refused := policies.Next(id, status, event)
			err = do(id)
			after, headErr := f.Head(t.Context())
			require.NoError(t, headErr)
			got := f.get(id)
			switch {
			case refused != nil:
				requireState(t, err, status, event)
				require.Equal(t, before, after, name)
				require.Equal(t, stored, got, name)
			case status == policies.StatusRemoved && event == policies.EventRemove:
				require.NoError(t, err, name)
				require.Equal(t, before, after, "done already: nothing changes")
			default:
				require.NoError(t, err, name)
				require.Equal(t, want, got.Status, name)
				require.Equal(t, before.Revision+1, after.Revision, name)
				require.Equal(t, f.clock.Now(), got.LastChanged, name)
				kept := event != policies.EventRemove && status != policies.StatusRemoved
				require.Equal(t, kept, len(got.Grants) == 1, "%s: grants %v", name, got.Grants)
			}
			// The next round starts afresh.
			_, err = f.RemoveMember(t.Context(), call(), owner, id)
			require.NoError(t, err)
		}
	}
	requireSound(t, f.Store)
}

func TestInvite(t *testing.T) {
	t.Parallel()
	f := open(t)
	invite := func(i store.Invitation) (store.Result[policies.Member], error) {
		return f.Invite(t.Context(), call(), owner, i)
	}
	_, err := invite(store.Invitation{Email: "Owner@example.com"})
	requireField(t, err, "email")
	_, err = invite(store.Invitation{Email: "nonsense", DisplayName: new("\x00")})
	var invalid *policies.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Errors, 2)
	_, err = f.Invite(t.Context(), call(), "nobody", store.Invitation{Email: "a@example.com"})
	requireNotFound(t, err, "account")
	end := f.clock.Now().Add(time.Hour).Add(7 * time.Nanosecond)
	r, err := invite(store.Invitation{Email: " Mia@EXAMPLE.com ", DisplayName: new(" M "), Grants: []policies.Grant{
		{Resource: policies.Resource{Type: "groups", ID: "owner"}, Roles: []policies.RoleID{"DEVELOPER", "viewer", "dev"}, ExpiresAt: &end},
		grant("environment", "e1", "Viewer"),
	}})
	require.NoError(t, err)
	require.True(t, r.Created)
	want := policies.Member{
		ID: r.Value.ID, Email: "Mia@EXAMPLE.com", Account: new(policies.AccountID("mia")), DisplayName: "M", Status: policies.StatusPending,
		LastChanged: f.clock.Now(), Grants: []policies.Grant{
			grant("environment", "e1", "viewer"),
			{Resource: policies.Resource{Type: "groups", ID: "owner"}, Roles: []policies.RoleID{"dev", "viewer"}, ExpiresAt: new(f.clock.Now().Add(time.Hour))},
		},
	}
	require.Equal(t, want, r.Value)
	item, err := f.GetMember(t.Context(), owner, r.Value.ID)
	require.NoError(t, err)
	require.Equal(t, want, item.Value)
	require.Equal(t, r.ETag, item.ETag)
	_, err = invite(store.Invitation{Email: "mia@example.com"})
	requireState(t, err, policies.StatusPending, policies.EventInvite)
	requireSound(t, f.Store)
}

func TestGrantsThatCannotBe(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.PutEnvironment(t.Context(), call(), "other", policies.Environment{ID: "foreign", Name: "x"})
	require.NoError(t, err)
	_, err = f.CreateRole(t.Context(), call(), "other", policies.Role{ID: "foreign", Name: "x"})
	require.NoError(t, err)
	now := f.clock.Now()
	for field, g := range map[string]policies.Grant{
		"grants[0].resource.id":   grant("environment", "foreign", "viewer"),
		"grants[0].roles[1]":      grant("environment", "e1", "viewer", "foreign"),
		"grants[0].roles":         grant("environment", "e1"),
		"grants[0].resource.type": grant("planet", "e1", "viewer"),
		"grants[0].expires_at":    {Resource: policies.Resource{Type: "group", ID: "g1"}, Roles: []policies.RoleID{"viewer"}, ExpiresAt: &now},
	} {
		_, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: "a@example.com", Grants: []policies.Grant{g}})
		requireField(t, err, field)
	}
	for _, resource := range []policies.ResourceType{"environments", "groups", "account"} {
		_, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: "a@example.com", Grants: []policies.Grant{grant(resource, "other", "viewer")}})
		requireField(t, err, "grants[0].resource.id")
	}
	_, err = f.Invite(t.Context(), call(), owner, store.Invitation{Email: "a@example.com", Grants: []policies.Grant{
		grant("environment", "e1", "viewer"), grant("environment", "e1", "dev"),
	}})
	requireField(t, err, "grants[1].resource")
}

func TestReinviteRestoresLiveGrants(t *testing.T) {
	t.Parallel()
	f := open(t)
	soon := f.clock.Now().Add(time.Hour)
	short := grant("group", "g1", "viewer")
	short.ExpiresAt = &soon
	id := f.member("mia", grant("environment", "e1", "viewer"), short)
	_, err := f.Leave(t.Context(), call(), "mia", id)
	require.NoError(t, err)
	require.Len(t, f.get(id).Grants, 2, "kept")
	f.clock.Advance(time.Hour)
	r, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: "mia@example.com"})
	require.NoError(t, err)
	require.Equal(t, id, r.Value.ID)
	require.False(t, r.Created)
	require.Equal(t, []policies.Grant{grant("environment", "e1", "viewer")}, f.get(id).Grants, "what has ended is not restored")

	_, err = f.Reject(t.Context(), call(), "mia", id)
	require.NoError(t, err)
	_, err = f.Invite(t.Context(), call(), owner, store.Invitation{
		Email: "mia@example.com", DisplayName: new("Mia"), Grants: []policies.Grant{grant("account", "owner", "dev")},
	})
	require.NoError(t, err)
	require.Equal(t, []policies.Grant{grant("account", "owner", "dev")}, f.get(id).Grants, "named grants replace")
	require.Equal(t, "Mia", f.get(id).DisplayName)

	_, err = f.RemoveMember(t.Context(), call(), owner, id)
	require.NoError(t, err)
	require.Empty(t, f.get(id).Grants)
	_, err = f.Reinvite(t.Context(), call(), owner, id)
	require.NoError(t, err)
	require.Empty(t, f.get(id).Grants, "removed starts afresh")
	require.Empty(t, f.get(id).DisplayName)
	requireSound(t, f.Store)
}

func TestInvitationsEndByTheClock(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.invite("mia@example.com")
	f.clock.Advance(store.DefaultInvitationTTL - time.Second)
	_, err := f.Resend(t.Context(), call(), owner, id)
	require.NoError(t, err)
	f.clock.Advance(store.DefaultInvitationTTL - time.Second)
	f.clock.Advance(time.Second)
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
	requireState(t, err, policies.StatusExpired, policies.EventAccept)
	_, err = f.Resend(t.Context(), call(), owner, id)
	requireState(t, err, policies.StatusExpired, policies.EventResend)
	_, err = f.Invite(t.Context(), call(), owner, store.Invitation{Email: "mia@example.com"})
	require.NoError(t, err)
	_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
	require.NoError(t, err)
	requireSound(t, f.Store)
}

func TestGrants(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.member("mia")
	put, err := f.PutGrant(t.Context(), call(), owner, id, grant("environment", "e1", "Viewer"))
	require.NoError(t, err)
	require.True(t, put.Created)
	require.Equal(t, []policies.Grant{grant("environment", "e1", "viewer")}, put.Value.Grants)
	same, err := f.PutGrant(t.Context(), call(), owner, id, grant("environment", "e1", "viewer"))
	require.NoError(t, err)
	require.False(t, same.Created)
	require.False(t, same.Changed)
	require.Equal(t, put.ETag, same.ETag)
	_, err = f.PutGrant(t.Context(), call(), owner, id, grant("environment", "e1", "nothing"))
	requireField(t, err, "roles[0]")
	more, err := f.PutGrant(t.Context(), call(), owner, id, grant("environment", "e1", "viewer", "dev"))
	require.NoError(t, err)
	require.False(t, more.Created)
	require.True(t, more.Changed)

	all := []policies.Grant{grant("environment", "e2", "dev"), grant("environments", "owner", "viewer")}
	set, err := f.SetGrants(t.Context(), call(), owner, id, all)
	require.NoError(t, err)
	require.Equal(t, all, set.Value.Grants)
	require.Equal(t, all, f.get(id).Grants)
	_, err = f.DeleteGrant(t.Context(), call(), owner, id, policies.Resource{Type: "environment", ID: "e1"})
	requireNotFound(t, err, "grant")
	gone, err := f.DeleteGrant(t.Context(), call(), owner, id, all[0].Resource)
	require.NoError(t, err)
	require.Equal(t, all[1:], gone.Value.Grants)
	item, err := f.GetMember(t.Context(), owner, id)
	require.NoError(t, err)
	require.Equal(t, gone.Value, item.Value)
	require.Equal(t, gone.ETag, item.ETag)

	_, err = f.RemoveMember(t.Context(), call(), owner, id)
	require.NoError(t, err)
	_, err = f.PutGrant(t.Context(), call(), owner, id, grant("environment", "e1", "viewer"))
	requireState(t, err, policies.StatusRemoved, "grant")
	_, err = f.PutGrant(t.Context(), call(), owner, "nobody", grant("environment", "e1", "viewer"))
	requireNotFound(t, err, "member")
	requireSound(t, f.Store)
}

func TestCopyMember(t *testing.T) {
	t.Parallel()
	f := open(t)
	soon := f.clock.Now().Add(time.Hour)
	short := grant("group", "g1", "viewer")
	short.ExpiresAt = &soon
	id := f.member("mia", grant("environment", "e1", "viewer", "dev"), short)
	f.clock.Advance(2 * time.Hour)
	copied, err := f.CopyMember(t.Context(), call(), owner, id, "max@example.com", new("Max"))
	require.NoError(t, err)
	require.Equal(t, policies.StatusPending, copied.Value.Status)
	require.Equal(t, []policies.Grant{grant("environment", "e1", "dev", "viewer")}, f.get(copied.Value.ID).Grants)
	_, err = f.CopyMember(t.Context(), call(), owner, id, "mia@example.com", nil)
	requireState(t, err, policies.StatusActive, policies.EventInvite)
	_, err = f.CopyMember(t.Context(), call(), owner, "nobody", "a@example.com", nil)
	requireNotFound(t, err, "member")
	_, err = f.CopyMember(t.Context(), call(), owner, id, "owner@example.com", nil)
	requireField(t, err, "email")
	requireSound(t, f.Store)
}

func TestListMembers(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i, name := range []string{"Zoë", "anna", "Änne", "Bob", ""} {
		_, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: fmt.Sprintf("%c%d@example.com", 'e'-i, i), DisplayName: new(name)})
		require.NoError(t, err)
		f.clock.Advance(time.Second)
	}
	walk := func(filter store.MemberFilter) (names []string) {
		for page := (store.Page{Limit: 2}); ; {
			list, err := f.ListMembers(t.Context(), owner, filter, page)
			require.NoError(t, err)
			for _, item := range list.Items {
				names = append(names, item.Value.DisplayName)
			}
			if page.Cursor = list.NextCursor; page.Cursor == "" {
				return names
			}
		}
	}
	require.Equal(t, []string{"", "anna", "Bob", "Zoë", "Änne"}, walk(store.MemberFilter{}))
	require.Equal(t, []string{"Änne", "Zoë", "Bob", "anna", ""}, walk(store.MemberFilter{Sort: store.SortName, Descending: true}))
	require.Equal(t, []string{"", "Bob", "Änne", "anna", "Zoë"}, walk(store.MemberFilter{Sort: store.SortEmail}))
	require.Equal(t, []string{"Zoë", "anna", "Änne", "Bob", ""}, walk(store.MemberFilter{Sort: store.SortLastChanged}))
	require.Equal(t, []string{"", "Bob", "Änne", "anna", "Zoë"}, walk(store.MemberFilter{Sort: store.SortLastChanged, Descending: true}))
	require.Len(t, walk(store.MemberFilter{Sort: store.SortStatus}), 5)
	require.Equal(t, []string{"anna"}, walk(store.MemberFilter{Search: "ANN"}))
	require.Equal(t, []string{"Zoë"}, walk(store.MemberFilter{Search: "e0@"}))
	require.Empty(t, walk(store.MemberFilter{Statuses: []policies.Status{policies.StatusActive}}))
	require.Len(t, walk(store.MemberFilter{Statuses: []policies.Status{policies.StatusPending}, Sort: store.SortStatus, Descending: true}), 5)
	_, err := f.ListMembers(t.Context(), owner, store.MemberFilter{Sort: "color"}, store.Page{})
	requireField(t, err, "sort")
	first, err := f.ListMembers(t.Context(), owner, store.MemberFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	var bad *store.CursorError
	_, err = f.ListMembers(t.Context(), owner, store.MemberFilter{Sort: store.SortLastChanged}, store.Page{Cursor: first.NextCursor})
	require.ErrorAs(t, err, &bad)
	_, err = f.ListMembers(t.Context(), "nobody", store.MemberFilter{}, store.Page{})
	requireNotFound(t, err, "account")
}

func TestCollaborationsAsTheMemberSeesThem(t *testing.T) {
	t.Parallel()
	f := open(t)
	soon := f.clock.Now().Add(time.Hour)
	short := grant("group", "g1", "viewer")
	short.ExpiresAt = &soon
	id := f.invite("mia@example.com", grant("environment", "e1", "viewer", "dev"), short, grant("account", "owner", "viewer"))
	c, err := f.GetCollaboration(t.Context(), "mia", id)
	require.NoError(t, err)
	viewer := policies.Role{ID: "viewer", Name: "Viewer", Policies: []policies.PolicyID{"environment.view"}}
	dev := policies.Role{ID: "dev", Name: "Developer", Policies: []policies.PolicyID{"environment.view", "p1"}}
	require.Equal(t, store.Collaboration{
		ID: id, Owner: policies.Account{ID: owner, Email: "owner@example.com", DisplayName: "owner"}, Status: policies.StatusPending,
		LastChanged: f.clock.Now(), Items: []store.CollaborationItem{
			{Resource: policies.Resource{Type: "environment", ID: "e1"}, Name: "Name of e1", Roles: []policies.Role{dev, viewer}},
			{Resource: policies.Resource{Type: "group", ID: "g1"}, Name: "Name of g1", Roles: []policies.Role{viewer}, ExpiresAt: &soon},
			{Resource: policies.Resource{Type: "account", ID: "owner"}, Roles: []policies.Role{viewer}},
		},
	}, c.Value)
	accepted, err := f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
	require.NoError(t, err)
	require.Equal(t, policies.StatusActive, accepted.Value.Status)
	named, err := f.UpdateCollaboration(t.Context(), call(), "mia", id, "My work")
	require.NoError(t, err)
	require.Equal(t, "My work", named.Value.DisplayName)
	require.Empty(t, f.get(id).DisplayName, "each side has a name of its own")
	f.clock.Advance(time.Hour)
	c, err = f.GetCollaboration(t.Context(), "mia", id)
	require.NoError(t, err)
	require.Len(t, c.Value.Items, 2, "ended grants are not shown")
	require.Equal(t, named.ETag, c.ETag)
	left, err := f.Leave(t.Context(), call(), "mia", id)
	require.NoError(t, err)
	require.Empty(t, left.Value.Items)
	for _, account := range []policies.AccountID{"max", owner} {
		_, err = f.GetCollaboration(t.Context(), account, id)
		requireNotFound(t, err, "collaboration")
		_, err = f.Accept(t.Context(), call(), store.Acceptor{Account: policies.Account{ID: account}}, id)
		requireNotFound(t, err, "collaboration")
	}
	list, err := f.ListCollaborations(t.Context(), "mia", store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	requireSound(t, f.Store)
}
