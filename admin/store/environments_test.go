package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func TestEnvironments(t *testing.T) {
	t.Parallel()
	f := open(t)
	put := func(id policies.EnvironmentID, name string, groups ...policies.GroupID) error {
		_, err := f.PutEnvironment(t.Context(), call(), owner, policies.Environment{ID: id, Name: name, Groups: groups})
		return err
	}
	requireField(t, put("e1", "x", "g1", "nothing"), "groups[1]")
	require.NoError(t, put("e1", "x", "g3", "g1", "g3"))
	e, err := f.GetEnvironment(t.Context(), owner, "e1")
	require.NoError(t, err)
	require.Equal(t, policies.Environment{ID: "e1", Name: "x", Groups: []policies.GroupID{"g1", "g3"}}, e.Value)
	require.NoError(t, put("e1", "y", "g1"))
	e, err = f.GetEnvironment(t.Context(), owner, "e1")
	require.NoError(t, err)
	require.Equal(t, []policies.GroupID{"g1"}, e.Value.Groups)
	_, err = f.PutEnvironment(t.Context(), call(), "other", policies.Environment{ID: "e1", Name: "mine"})
	requireTaken(t, err, "id")
	_, err = f.PutEnvironment(t.Context(), call(), "other", policies.Environment{ID: "o1", Name: "mine", Groups: []policies.GroupID{"g1"}})
	requireField(t, err, "groups[0]")
	requireSound(t, f.Store)
}

func TestDeleteEnvironmentEndsGrants(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.invite("nobody@example.com", grant("environment", "e1", "viewer"), grant("environments", "owner", "viewer"))
	_, err := f.DeleteEnvironment(t.Context(), call(), owner, "e1")
	require.NoError(t, err)
	require.Equal(t, []policies.Grant{grant("environments", "owner", "viewer")}, f.get(id).Grants)
	_, err = f.DeleteEnvironment(t.Context(), call(), owner, "e1")
	requireNotFound(t, err, "environment")
	f.environment("e1")
	require.Len(t, f.get(id).Grants, 1, "made again, it starts from nothing")
	requireSound(t, f.Store)
}

func TestTransferEnvironment(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.member("mia", grant("environment", "e1", "viewer"))
	_, err := f.TransferEnvironment(t.Context(), call(), owner, "e1", "nobody")
	requireField(t, err, "to")
	same, err := f.TransferEnvironment(t.Context(), call(), owner, "e1", owner)
	require.NoError(t, err)
	require.False(t, same.Changed)
	require.Equal(t, []policies.GroupID{"g2"}, same.Value.Groups)
	moved, err := f.TransferEnvironment(t.Context(), call(), owner, "e1", "other")
	require.NoError(t, err)
	require.Equal(t, policies.Environment{ID: "e1", Name: "Name of e1", Groups: []policies.GroupID{}}, moved.Value)
	require.Empty(t, f.get(id).Grants)
	_, err = f.GetEnvironment(t.Context(), owner, "e1")
	requireNotFound(t, err, "environment")
	e, err := f.GetEnvironment(t.Context(), "other", "e1")
	require.NoError(t, err)
	require.Equal(t, moved.ETag, e.ETag)
	requireSound(t, f.Store)
}
