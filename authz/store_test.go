package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

func readPath(tb testing.TB, s *State, path ...string) (any, error) {
	tb.Helper()
	value, err := viewStore{}.Read(context.Background(), transaction{s}, path)
	if err != nil {
		return nil, err
	}
	require.Implements(tb, (*ast.Value)(nil), value)
	plain, err := ast.JSON(value.(ast.Value))
	require.NoError(tb, err)
	return plain, nil
}

// The store gives by path just what the bundle holds as a whole: each document of
// an account, and each part of it.
func TestStoreReadsWhatTheBundleHolds(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, rapiddice.New(rt), p)
		s := buildState(t, p, testHeader(6), m.objects())
		for id, data := range s.PlatformData().Accounts() {
			encoded, err := jsonv2.Marshal(data)
			require.NoError(t, err)
			var want any
			require.NoError(t, plainJSON(encoded, &want))
			compareBelow(t, s, want, "usher", "accounts", string(id))
		}
	})
}

func plainJSON(data []byte, to *any) error {
	value, err := ast.ValueFromReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	*to, err = ast.JSON(value)
	return err
}

func compareBelow(t *testing.T, s *State, want any, path ...string) {
	t.Helper()
	got, err := readPath(t, s, path...)
	require.NoError(t, err, "%v", path)
	require.Empty(t, cmp.Diff(want, got), "%v", path)
	if object, ok := want.(map[string]any); ok {
		for name, value := range object {
			compareBelow(t, s, value, append(slices.Clip(path), name)...)
		}
	}
	if array, ok := want.([]any); ok && len(array) > 0 {
		compareBelow(t, s, array[0], append(slices.Clip(path), "0")...)
	}
}

func TestStoreLeaves(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	s := buildState(t, p, testHeader(6), company(t, p, nil))
	for _, tt := range []struct {
		path storage.Path
		want any
	}{
		{storage.Path{"usher", "revision"}, json.Number("6")},
		{storage.Path{"usher", "subjects", "mia"}, true},
		{storage.Path{"usher", "owners", "environment", "app"}, "owner"},
		{storage.Path{"usher", "owners", "group", "squad"}, "owner"},
		{storage.Path{"usher", "owners", "account", "mia"}, "mia"},
		{storage.Path{"usher", "catalogue", "policies", "environment.view", "actions", actionView}, true},
		{storage.Path{"usher", "catalogue", "actions", actionStart}, true},
		{storage.Path{"usher", "accounts", "owner", "groups", "squad", "ancestors"}, []any{"team"}},
		{storage.Path{"usher", "accounts", "owner", "members", "mia", "status"}, "active"},
	} {
		got, err := readPath(t, s, tt.path...)
		require.NoError(t, err, "%v", tt.path)
		require.Equal(t, tt.want, got, "%v", tt.path)
	}
	for _, absent := range []storage.Path{
		{"system"}, {"usher", "authz"}, {"usher", "authz", "decision"}, {"usher", "subjects", "nobody"}, {"usher", "subjects", "mia", "x"},
		{"usher", "revision", "x"}, {"usher", "owners", "planet", "app"}, {"usher", "owners", "environment", "none"},
		{"usher", "owners", "environments", "none"}, {"usher", "owners", "environment", "app", "x"}, {"usher", "accounts", "nobody"},
		{"usher", "accounts", "nobody", "roles"}, {"usher", "accounts", "owner", "x"}, {"usher", "accounts", "owner", "roles", "none"},
		{"usher", "accounts", "owner", "roles", "viewer", "x"}, {"usher", "accounts", "owner", "roles", "viewer", "policies", "7"},
		{"usher", "accounts", "owner", "roles", "viewer", "policies", "x"}, {"usher", "accounts", "owner", "members", "nobody"},
		{"usher", "accounts", "owner", "members", "mia", "x"}, {"usher", "accounts", "owner", "members", "mia", "grants", "group"},
		{"usher", "accounts", "owner", "members", "mia", "grants", "environment", "db"},
		{"usher", "accounts", "owner", "members", "mia", "grants", "planet", "db"},
		{"usher", "accounts", "owner", "members", "max", "grants", "environments", "other"},
		{"usher", "catalogue", "policies", "none"},
	} {
		_, err := readPath(t, s, absent...)
		require.True(t, storage.IsNotFound(err), "%v: %v", absent, err)
	}
	for _, whole := range []storage.Path{{}, {"usher"}, {"usher", "subjects"}, {"usher", "owners"}, {"usher", "owners", "environment"}, {"usher", "accounts"}} {
		_, err := readPath(t, s, whole...)
		require.ErrorContains(t, err, "cannot be read as a whole", "%v", whole)
		require.False(t, storage.IsNotFound(err))
	}
	_, err := viewStore{}.Read(context.Background(), transaction{}, storage.Path{"usher", "revision"})
	require.Error(t, err)
	require.False(t, storage.IsNotFound(err))
	require.Error(t, viewStore{}.Write(context.Background(), transaction{s}, storage.AddOp, storage.Path{"usher"}, 1))
	require.Error(t, viewStore{}.Truncate(context.Background(), transaction{s}, storage.TransactionParams{}, nil))
}

// A bundle of a state makes the same state again, but for what no decision needs.
func TestBundleRoundTrip(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, rapiddice.New(rt), p)
		s := buildState(t, p, testHeader(6), m.objects())
		packed := &bytes.Buffer{}
		require.NoError(t, policies.WriteBundle(packed, s.PlatformData()))
		contents, err := policies.ReadBundle(packed)
		require.NoError(t, err)
		b := NewBuilder(Header{Platform: contents.PlatformID(), Revision: contents.Revision(), Hash: s.Hash()})
		b.Reuse(p)
		for o, err := range contents.Objects() {
			require.NoError(t, err)
			require.NoError(t, b.Add(o))
		}
		again, err := b.Build(context.Background())
		require.NoError(t, err)
		require.Equal(t, s.Platform(), again.Platform())
		for id, data := range s.PlatformData().Accounts() {
			require.Empty(t, cmp.Diff(encode(t, data), encode(t, again.mustAccount(id).Data())))
		}
		require.Equal(t, s.Accounts(), again.Accounts())
	})
}

func encode(tb testing.TB, v any) string {
	tb.Helper()
	value, err := policies.CanonicalJSON(v)
	require.NoError(tb, err)
	return string(value)
}
