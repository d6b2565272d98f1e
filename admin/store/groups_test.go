package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	f := open(t)
	put := func(id policies.GroupID, name string, parent *policies.GroupID) error {
		_, err := f.PutGroup(t.Context(), call(), owner, policies.Group{ID: id, Name: name, Parent: parent, Color: "#00ff7F"})
		return err
	}
	requireField(t, put("g1", "x", new(policies.GroupID("g2"))), "parent")
	requireField(t, put("g1", "x", new(policies.GroupID("g1"))), "parent")
	requireField(t, put("g9", "x", new(policies.GroupID("nothing"))), "parent")
	requireTaken(t, put("g9", "NAME of g1", nil), "name")
	require.NoError(t, put("g9", "NAME of g1", new(policies.GroupID("g1"))), "not a sibling")
	require.NoError(t, put("g9", "name of G2x", new(policies.GroupID("g1"))))
	_, err := f.PutGroup(t.Context(), call(), "other", policies.Group{ID: "g1", Name: "mine", Color: "#000000"})
	requireTaken(t, err, "id")
	_, err = f.PutGroup(t.Context(), call(), "nobody", policies.Group{ID: "new", Name: "mine", Color: "#000000"})
	requireNotFound(t, err, "account")
	_, err = f.GetGroup(t.Context(), "other", "g1")
	requireNotFound(t, err, "group")
	item, err := f.GetGroup(t.Context(), owner, "g2")
	require.NoError(t, err)
	require.Equal(t, policies.Group{ID: "g2", Name: "Name of g2", Parent: new(policies.GroupID("g1")), Color: policies.DefaultColor}, item.Value)
	requireSound(t, f.Store)
}

func TestGroupsNestOnlySoDeep(t *testing.T) {
	t.Parallel()
	f := open(t)
	parent := policies.GroupID("g3")
	for i := 2; i <= policies.MaxGroupDepth; i++ {
		id := policies.GroupID(fmt.Sprintf("deep-%d", i))
		f.group(id, &parent)
		parent = id
	}
	_, err := f.PutGroup(t.Context(), call(), owner, policies.Group{ID: "too-deep", Name: "x", Parent: &parent, Color: "#000000"})
	requireField(t, err, "parent")
	// A whole tree counts with its height.
	_, err = f.PutGroup(t.Context(), call(), owner, policies.Group{ID: "g3", Name: "x", Parent: new(policies.GroupID("g1")), Color: "#000000"})
	requireField(t, err, "parent")
}

func TestDeleteGroupMovesWhatIsInIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.group("child", new(policies.GroupID("g2")))
	f.environment("both", "g1", "g2")
	member := f.member("mia", grant("group", "g2", "viewer"), grant("group", "g1", "dev"))
	ended := f.member("max", grant("group", "g2", "viewer"))
	_, err := f.Leave(t.Context(), call(), "max", ended)
	require.NoError(t, err)
	before, err := f.GetMember(t.Context(), owner, member)
	require.NoError(t, err)

	_, err = f.DeleteGroup(t.Context(), call(), owner, "g2")
	require.NoError(t, err)
	child, err := f.GetGroup(t.Context(), owner, "child")
	require.NoError(t, err)
	require.Equal(t, new(policies.GroupID("g1")), child.Value.Parent)
	for _, id := range []policies.EnvironmentID{"e1", "both"} {
		e, err := f.GetEnvironment(t.Context(), owner, id)
		require.NoError(t, err)
		require.Equal(t, []policies.GroupID{"g1"}, e.Value.Groups)
	}
	after, err := f.GetMember(t.Context(), owner, member)
	require.NoError(t, err)
	require.Equal(t, []policies.Grant{grant("group", "g1", "dev")}, after.Value.Grants)
	require.NotEqual(t, before.ETag, after.ETag, "its grants are a part of it")
	require.Empty(t, f.get(ended).Grants, "kept grants end too")

	_, err = f.DeleteGroup(t.Context(), call(), owner, "g1")
	require.NoError(t, err)
	e, err := f.GetEnvironment(t.Context(), owner, "e1")
	require.NoError(t, err)
	require.Empty(t, e.Value.Groups, "at the root")
	_, err = f.DeleteGroup(t.Context(), call(), owner, "g1")
	requireNotFound(t, err, "group")
	requireSound(t, f.Store)
}

func TestDeleteGroupMindsNames(t *testing.T) {
	t.Parallel()
	f := open(t)
	put := func(id policies.GroupID, name string, parent policies.GroupID) {
		_, err := f.PutGroup(t.Context(), call(), owner, policies.Group{ID: id, Name: name, Parent: &parent, Color: "#000000"})
		require.NoError(t, err)
	}
	put("same", "name of G3", "g1")
	_, err := f.DeleteGroup(t.Context(), call(), owner, "g1")
	requireTaken(t, err, "name")
	put("same", "name of G1", "g1")
	_, err = f.DeleteGroup(t.Context(), call(), owner, "g1")
	require.NoError(t, err, "the name of the group that goes is free")
	requireSound(t, f.Store)
}

func TestPagesOfGroups(t *testing.T) {
	t.Parallel()
	f := open(t)
	var seen []policies.GroupID
	for page := (store.Page{Limit: 2}); ; {
		list, err := f.ListGroups(t.Context(), owner, nil, page)
		require.NoError(t, err)
		for _, item := range list.Items {
			seen = append(seen, item.Value.ID)
		}
		if page.Cursor = list.NextCursor; page.Cursor == "" {
			break
		}
	}
	require.Equal(t, []policies.GroupID{"g1", "g2", "g3"}, seen)
	list, err := f.ListGroups(t.Context(), owner, nil, store.Page{Limit: 1})
	require.NoError(t, err)
	var bad *store.CursorError
	_, err = f.ListEnvironments(t.Context(), owner, nil, store.Page{Cursor: list.NextCursor})
	require.ErrorAs(t, err, &bad, "a cursor of another list")
	_, err = f.ListGroups(t.Context(), owner, nil, store.Page{Cursor: "!"})
	require.ErrorAs(t, err, &bad)
	_, err = f.ListGroups(t.Context(), "nobody", nil, store.Page{})
	requireNotFound(t, err, "account")
}
