package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// fixture is a store with an owner that has something to share, and other accounts:
// groups g1 > g2 and g3, environments e1 (in g2) and e2, roles viewer (Viewer) and dev
// (Developer), the custom policy p1 in dev.
type fixture struct {
	*store.Store
	t     *testing.T
	clock *clock
}

const owner = policies.AccountID("owner")

func newFixture(t *testing.T, s *store.Store, c *clock) *fixture {
	t.Helper()
	f := &fixture{s, t, c}
	for _, id := range []policies.AccountID{owner, "mia", "max", "other"} {
		f.account(id, string(id)+"@example.com")
	}
	f.group("g1", nil)
	f.group("g2", new(policies.GroupID("g1")))
	f.group("g3", nil)
	f.environment("e1", "g2")
	f.environment("e2")
	f.policy("p1")
	f.role("viewer", "Viewer", "environment.view")
	f.role("dev", "Developer", "environment.view", "p1")
	return f
}

func (f *fixture) account(id policies.AccountID, email string) {
	f.t.Helper()
	_, err := f.PutAccount(f.t.Context(), call(), policies.Account{ID: id, Email: email, DisplayName: string(id)})
	require.NoError(f.t, err)
}

func (f *fixture) group(id policies.GroupID, parent *policies.GroupID) {
	f.t.Helper()
	_, err := f.PutGroup(f.t.Context(), call(), owner, policies.Group{ID: id, Name: "Name of " + string(id), Parent: parent, Color: policies.DefaultColor})
	require.NoError(f.t, err)
}

func (f *fixture) environment(id policies.EnvironmentID, groups ...policies.GroupID) {
	f.t.Helper()
	_, err := f.PutEnvironment(f.t.Context(), call(), owner, policies.Environment{ID: id, Name: "Name of " + string(id), Groups: groups})
	require.NoError(f.t, err)
}

func (f *fixture) policy(id policies.PolicyID) {
	f.t.Helper()
	_, err := f.CreatePolicy(f.t.Context(), call(), owner, policies.Policy{
		ID: id, Name: "Name of " + string(id), Resources: []policies.ResourceType{"environment"}, Actions: []policies.ActionName{"own.Do"},
	})
	require.NoError(f.t, err)
}

func (f *fixture) role(id policies.RoleID, name string, ids ...policies.PolicyID) {
	f.t.Helper()
	_, err := f.CreateRole(f.t.Context(), call(), owner, policies.Role{ID: id, Name: name, Policies: ids})
	require.NoError(f.t, err)
}

func grant(t policies.ResourceType, id string, roles ...policies.RoleID) policies.Grant {
	return policies.Grant{Resource: policies.Resource{Type: t, ID: id}, Roles: roles}
}

// invite invites an address, and gives the record's id.
func (f *fixture) invite(email string, grants ...policies.Grant) policies.CollaborationID {
	f.t.Helper()
	r, err := f.Invite(f.t.Context(), call(), owner, store.Invitation{Email: email, Grants: grants})
	require.NoError(f.t, err)
	return r.Value.ID
}

// member is an invited and accepted member.
func (f *fixture) member(account policies.AccountID, grants ...policies.Grant) policies.CollaborationID {
	f.t.Helper()
	id := f.invite(string(account)+"@example.com", grants...)
	_, err := f.Accept(f.t.Context(), call(), store.Acceptor{Account: policies.Account{ID: account}}, id)
	require.NoError(f.t, err)
	return id
}

func (f *fixture) get(id policies.CollaborationID) policies.Member {
	f.t.Helper()
	item, err := f.GetMember(f.t.Context(), owner, id)
	require.NoError(f.t, err)
	return item.Value
}

// requireField checks that err is an InvalidError of just the field.
func requireField(t *testing.T, err error, field string) {
	t.Helper()
	var invalid *policies.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Errors, 1, "%v", err)
	require.Equal(t, field, invalid.Errors[0].Field)
}

func requireTaken(t *testing.T, err error, field string) {
	t.Helper()
	var taken *policies.TakenError
	require.ErrorAs(t, err, &taken)
	require.Equal(t, field, taken.Field)
}

func requireNotFound(t *testing.T, err error, kind string) {
	t.Helper()
	var notFound *policies.NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, kind, notFound.Kind)
}

func requireState(t *testing.T, err error, status policies.Status, event policies.Event) {
	t.Helper()
	var state *policies.StateError
	require.ErrorAs(t, err, &state)
	require.Equal(t, status, state.Status)
	require.Equal(t, event, state.Event)
}
