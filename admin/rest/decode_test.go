package rest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, where string }{
		{"nothing", ``, ""},
		{"no JSON", `name`, ""},
		{"cut off", `{"name": "a"`, ""},
		{"something after", `{"name": "a"} {}`, ""},
		{"another type", `[]`, ""},
		{"wrong type", `{"name": 5}`, "/name"},
		{"null", `{"name": null}`, "/name"},
		{"null in a list", `{"name": "a", "groups": [null]}`, "/groups"},
		{"unknown key", `{"name": "a", "titel": "b"}`, "/titel"},
		{"key in other case", `{"Name": "a"}`, "/Name"},
		{"duplicate", `{"name": "a", "name": "b"}`, "/name"},
		{"duplicate in other case", `{"name": "a", "NAME": "b"}`, "/NAME"},
		{"invalid UTF-8", "{\"name\": \"\xff\"}", "/name"},
		{"control character", "{\"name\": \"a\nb\"}", "/name"},
		{"half a surrogate", `{"name": "\ud800"}`, "/name"},
		{"too deep", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), ""},
		{"too deep in an object", `{"name": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "/name"},
	} {
		var malformed *policies.MalformedError
		err := decode([]byte(c.body), new(environmentInput))
		require.ErrorAs(t, err, &malformed, c.name)
		require.Equal(t, c.where, strings.TrimSuffix(strings.ReplaceAll(malformed.Where, "/0", ""), "/…"), c.name)
		require.NotEmpty(t, malformed.Reason, c.name)
		require.NotContains(t, malformed.Reason, "Go ", c.name)
		require.NotContains(t, malformed.Reason, "rest.", c.name)
	}
}

func TestDecodeTakesNullWhereItMeansSomething(t *testing.T) {
	t.Parallel()
	var group groupInput
	require.NoError(t, decode([]byte(`{"name": "a", "parent": null}`), &group))
	require.Nil(t, group.Parent)
	var roles grantRoles
	require.NoError(t, decode([]byte(`{"roles": ["r"], "expires_at": null}`), &roles))
	require.Nil(t, roles.ExpiresAt)
}

func TestCheckTellsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	var body invitationInput
	require.NoError(t, decode([]byte(`{"display_name": "a\u0000b", "grants": [
		{"resource": {"type": "environment", "id": "e"}},
		{"resource": {"type": "planet"}, "roles": [], "expires_at": "tomorrow"},
		{"roles": ["", "ok"]},
		{"resource": {"type": "environment", "id": "e"}, "roles": ["r"]}]}`), &body))
	var invalid *policies.InvalidError
	require.ErrorAs(t, check(&body), &invalid)
	got := map[string]bool{}
	for _, e := range invalid.Errors {
		require.False(t, got[e.Field], e.Field)
		got[e.Field] = true
	}
	for _, field := range []string{
		"email", "display_name", "grants[0].roles", "grants[1].resource.type", "grants[1].resource.id", "grants[1].roles",
		"grants[1].expires_at", "grants[2].resource", "grants[2].roles[0]", "grants[3].resource",
	} {
		require.True(t, got[field], "%s in %v", field, got)
	}
	require.Len(t, got, 10)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"email": "a@b.example", "grants": [{"resource": {"type": "environment", "id": "e"}, "roles": ["r"], "expires_at": null}]}`))
	f.Add([]byte("{\"email\": \"\xff\"}"))
	f.Add([]byte(strings.Repeat("[", 20_000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var body invitationInput
		err := decode(data, &body)
		var malformed *policies.MalformedError
		if err != nil {
			require.ErrorAs(t, err, &malformed)
			return
		}
		var invalid *policies.InvalidError
		if err := check(&body); err != nil {
			require.ErrorAs(t, err, &invalid)
			require.NotEmpty(t, invalid.Errors)
			return
		}
		grantsOf(value(body.Grants)) // must not panic on what has passed
	})
}
