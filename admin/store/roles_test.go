package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	f := open(t)
	own := policies.Policy{ID: "p2", Name: "Own", Resources: []policies.ResourceType{"group", "environment", "group"}, Actions: []policies.ActionName{"b.B", "a.A"}}
	made, err := f.CreatePolicy(t.Context(), call(), owner, own)
	require.NoError(t, err)
	require.Equal(t, own.Normalize(), made.Value)
	_, err = f.CreatePolicy(t.Context(), call(), owner, own)
	requireTaken(t, err, "id")
	own.ID = "environment.view"
	_, err = f.CreatePolicy(t.Context(), call(), owner, own)
	requireTaken(t, err, "id")
	own.ID = ""
	generated, err := f.CreatePolicy(t.Context(), call(), owner, own)
	require.NoError(t, err)
	require.True(t, policies.ValidID(generated.Value.ID))
	changed, err := f.UpdatePolicy(t.Context(), call(), owner, "p2", store.PolicyPatch{Name: new("New"), Actions: &[]policies.ActionName{"c.C"}})
	require.NoError(t, err)
	require.Equal(t, "New", changed.Value.Name)
	require.Equal(t, []policies.ResourceType{"environment", "group"}, changed.Value.Resources)
	same, err := f.UpdatePolicy(t.Context(), call(), owner, "p2", store.PolicyPatch{Name: new("New")})
	require.NoError(t, err)
	require.False(t, same.Changed)
	_, err = f.UpdatePolicy(t.Context(), call(), owner, "p2", store.PolicyPatch{Name: new("")})
	requireField(t, err, "name")
	_, err = f.UpdatePolicy(t.Context(), call(), owner, "nothing", store.PolicyPatch{})
	requireNotFound(t, err, "policy")
	list, err := f.ListPolicies(t.Context(), owner, nil, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 3)
	requireSound(t, f.Store)
}

func TestDeletePolicyInUse(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.DeletePolicy(t.Context(), call(), owner, "p1", false)
	var inUse *policies.InUseError
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, &policies.InUseError{Kind: "policy", ID: "p1", Count: 1, Uses: []string{"role dev"}}, inUse)
	_, err = f.DeletePolicy(t.Context(), call(), owner, "p1", true)
	require.NoError(t, err)
	role, err := f.GetRole(t.Context(), owner, "dev")
	require.NoError(t, err)
	require.Equal(t, []policies.PolicyID{"environment.view"}, role.Value.Policies)
	requireSound(t, f.Store)
}

func TestRoles(t *testing.T) {
	t.Parallel()
	f := open(t)
	create := func(id policies.RoleID, name string, ids ...policies.PolicyID) error {
		_, err := f.CreateRole(t.Context(), call(), owner, policies.Role{ID: id, Name: name, Policies: ids})
		return err
	}
	requireTaken(t, create("viewer", "x"), "id")
	requireTaken(t, create("r", "VIEWER"), "name")
	requireTaken(t, create("r", "dev"), "name")
	requireTaken(t, create("Developer", "x"), "id")
	require.NoError(t, create("r", "r", "environment.view"), "its own id")
	requireField(t, create("r2", "x", "environment.view", "nothing"), "policies[1]")
	_, err := f.CreatePolicy(t.Context(), call(), "other", policies.Policy{ID: "p-other", Name: "x"})
	require.NoError(t, err)
	requireField(t, create("r2", "x", "p-other"), "policies[0]")

	changed, err := f.UpdateRole(t.Context(), call(), owner, "dev", store.RolePatch{Policies: &[]policies.PolicyID{"p1", "container.ssh"}, ReceiveLoadAlerts: new(true)})
	require.NoError(t, err)
	require.Equal(t, []policies.PolicyID{"container.ssh", "p1"}, changed.Value.Policies)
	read, err := f.GetRole(t.Context(), owner, "dev")
	require.NoError(t, err)
	require.Equal(t, changed.Value, read.Value)
	require.Equal(t, changed.ETag, read.ETag)
	_, err = f.UpdateRole(t.Context(), call(), owner, "dev", store.RolePatch{Name: new("viewer")})
	requireTaken(t, err, "name")
	same, err := f.UpdateRole(t.Context(), call(), owner, "dev", store.RolePatch{Name: new("Developer")})
	require.NoError(t, err)
	require.False(t, same.Changed)
	requireSound(t, f.Store)
}

func TestCopyRole(t *testing.T) {
	t.Parallel()
	f := open(t)
	var names []string
	for range 3 {
		r, err := f.CopyRole(t.Context(), call(), owner, "dev", "")
		require.NoError(t, err)
		require.Equal(t, []policies.PolicyID{"environment.view", "p1"}, r.Value.Policies)
		names = append(names, r.Value.Name)
	}
	require.Equal(t, []string{"Developer (copy)", "Developer (copy 2)", "Developer (copy 3)"}, names)
	_, err := f.CopyRole(t.Context(), call(), owner, "dev", "Viewer")
	requireTaken(t, err, "name")
	f.role("long", strings.Repeat("ß", policies.MaxNameLength))
	r, err := f.CopyRole(t.Context(), call(), owner, "long", "")
	require.NoError(t, err)
	require.Len(t, []rune(r.Value.Name), policies.MaxNameLength)
	requireSound(t, f.Store)
}

func TestMakeDefaultRoles(t *testing.T) {
	t.Parallel()
	f := open(t)
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	made, err := f.MakeDefaultRoles(t.Context(), call(), owner)
	require.NoError(t, err)
	missing := 0
	for _, r := range catalogue.Roles {
		if k := policies.NameKey(r.Name); k != "viewer" && k != "developer" {
			missing++
		}
	}
	require.Len(t, made.Value, missing)
	require.Positive(t, missing)
	again, err := f.MakeDefaultRoles(t.Context(), call(), owner)
	require.NoError(t, err)
	require.False(t, again.Changed)
	require.Empty(t, again.Value)
	requireSound(t, f.Store)
}

func TestDeleteRoleInUse(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.invite("nobody@example.com", grant("environment", "e1", "dev", "viewer"), grant("group", "g1", "dev"))
	_, err := f.DeleteRole(t.Context(), call(), owner, "dev", false)
	var inUse *policies.InUseError
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, 2, inUse.Count)
	require.Contains(t, inUse.Uses[0], string(id))
	_, err = f.DeleteRole(t.Context(), call(), owner, "dev", true)
	require.NoError(t, err)
	require.Equal(t, []policies.Grant{grant("environment", "e1", "viewer")}, f.get(id).Grants)
	_, err = f.GetRole(t.Context(), owner, "dev")
	requireNotFound(t, err, "role")
	requireSound(t, f.Store)
}
