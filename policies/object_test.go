package policies_test

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
)

// What is written out of canonical parts is what the whole is in canonical form: it is
// hashed, and another encoder may have to find the same bytes.
func TestEncodeObjectsIsCanonical(t *testing.T) {
	t.Parallel()
	body := rapid.Custom(func(t *rapid.T) any {
		return rapid.SampledFrom([]any{
			nil, policies.AccountBody{}, policies.GroupBody{},
			policies.RoleBody{Name: rapid.String().Draw(t, "name"), Policies: []policies.PolicyID{"b", "a"}},
			policies.GrantBody{Roles: []policies.RoleID{"r"}},
		}).Draw(t, "body")
	})
	rapid.Check(t, func(t *rapid.T) {
		objects := make([]policies.Object, 0, 3)
		for range rapid.IntRange(0, 3).Draw(t, "objects") {
			o, err := policies.NewObject(
				policies.Kind(rapid.String().Draw(t, "kind")), policies.AccountID(rapid.String().Draw(t, "owner")), rapid.String().Draw(t, "id"), body.Draw(t, "body"))
			require.NoError(t, err)
			objects = append(objects, o)
		}
		want, err := policies.CanonicalJSON(objects)
		require.NoError(t, err)
		got, err := policies.EncodeObjects(objects)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
	got, err := policies.EncodeObjects([]policies.Object{{Kind: policies.KindGroup, Owner: "o", ID: "g"}})
	require.NoError(t, err)
	require.Equal(t, jsontext.Value(`[{"body":null,"id":"g","kind":"group","owner":"o"}]`), got)
	_, err = policies.EncodeObjects([]policies.Object{{ID: "\xff"}})
	require.Error(t, err)
}
