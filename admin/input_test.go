package admin_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// TestBadInput: every kind of bad input is a 4xx that says where, and nothing is
// written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	head := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	long := strings.Repeat("x", policies.MaxIDLength+1)
	group := "/v1/accounts/own/groups/g"
	for _, c := range []struct {
		name   string
		body   any
		status int
		field  string
	}{
		{"empty", "", 400, ""},
		{"no JSON", "name=x", 400, ""},
		{"cut off", `{"name":`, 400, ""},
		{"array", `[{"name": "x"}]`, 400, ""},
		{"two values", `{"name": "x"}{"name": "y"}`, 400, ""},
		{"wrong type", `{"name": 7}`, 400, "/name"},
		{"null", `{"name": null}`, 400, "/name"},
		{"unknown key", `{"name": "x", "colour": "#ffffff"}`, 400, "/colour"},
		{"duplicate key", `{"name": "x", "name": "y"}`, 400, "/name"},
		{"duplicate key in other case", `{"name": "x", "NAME": "y"}`, 400, "/NAME"},
		{"invalid UTF-8", "{\"name\": \"\xff\xfe\"}", 400, "/name"},
		{"raw control character", "{\"name\": \"a\x01b\"}", 400, "/name"},
		{"deep", deep, 400, ""},
		{"deep value", `{"name": "x", "parent": ` + deep + `}`, 400, ""},
		{"control character", `{"name": "a\u0001b"}`, 422, "name"},
		{"NUL", `{"name": "a\u0000b"}`, 422, "name"},
		{"right to left", `{"name": "a\u202eb"}`, 422, "name"},
		{"long name", `{"name": "` + strings.Repeat("ä", policies.MaxNameLength+1) + `"}`, 422, "name"},
		{"long id", `{"name": "x", "parent": "` + long + `"}`, 422, "parent"},
		{"missing", `{}`, 422, "name"},
		{"too large", `{"name": "` + strings.Repeat("x", policies.MaxBodyBytes) + `"}`, 413, ""},
	} {
		a := p.do("PUT", group, c.body, with("Content-Type", "application/json"))
		require.Equal(t, c.status, a.status, "%s: %s", c.name, a.body)
		a.want(c.status)
		if c.field != "" {
			require.Contains(t, a.fields(), c.field, c.name)
		}
	}
	p.do("PUT", "/v1/accounts/own/groups/"+long, m{"name": "x"}).want(422)
	p.do("PUT", "/v1/accounts/own/groups/%00", m{"name": "x"}).want(422)
	p.do("PUT", "/v1/accounts/own/groups/%ff", m{"name": "x"}).want(422)
	p.do("GET", "/v1/accounts/own/groups/"+long, nil).want(404)
	p.do("GET", "/v1/accounts/%00/groups", nil).want(404)
	p.do("GET", "/v1/accounts/own/groups?cursor=%ff", nil).want(400)
	p.do("GET", "/v1/accounts/own/groups?cursor="+strings.Repeat("a", 2000), nil).want(400)
	p.do("GET", "/v1/accounts/own/groups?%gh", nil).want(400)
	p.do("GET", "/v1/accounts/own/members?search=%00", nil).want(400)
	p.do("PUT", group, m{"name": "x"}, with("Content-Type", "text/plain")).want(415)
	p.do("PUT", group, m{"name": "x"}, without("Content-Type")).want(415)
	p.do("PUT", group, m{"name": "x"}, with("Content-Type", "application/json; charset=latin1")).want(415)
	p.do("PUT", group, m{"name": "x"}, with("Content-Encoding", "gzip")).want(415)
	p.do("POST", "/v1/accounts/own/members/x/suspend", m{"now": true}).want(400)
	p.do("GET", "/v1/accounts/own", nil, with("Usher-Min-Revision", "-1")).want(400)
	p.do("GET", "/v1/accounts/own", nil, with("Usher-Min-Revision", "9007199254740992")).want(400)
	p.do("PUT", group, m{"name": "x"}, with("If-Match", `"a", "b"`)).want(400)
	behind := p.do("GET", "/v1/accounts/own", nil, with("Usher-Min-Revision", "9007199254740991")).want(503)
	require.Equal(t, "1", behind.header.Get("Retry-After"))
	require.Equal(t, "urn:usher:problem:revision-behind", behind.text("type"))
	require.Equal(t, string(head), string(p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body), "nothing was written")
	p.do("PUT", group, m{"name": "x"}, with("Content-Type", "application/json; charset=UTF-8")).want(201)
}

// small is a document with one role, one environment and one member.
func small(owner, member string) string {
	return fmt.Sprintf(`{"account": {"id": %q, "email": "%[1]s@example.com"}, "environments": [{"id": "%[1]s-e", "name": "e"}],
		"roles": [{"id": "viewer", "name": "Viewer", "policies": ["environment.view"]}],
		"members": [{"account": {"id": %[2]q, "email": "%[2]s@example.com"}, "grants": [{"resource": {"type": "environments", "id": %[1]q}, "roles": ["Viewer"]}]}]}`,
		owner, member)
}

func TestImport(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("taken")
	ndjson := with("Content-Type", "application/x-ndjson")
	line := func(s string) string { return strings.ReplaceAll(s, "\n", " ") + "\n" }

	one := p.do("POST", "/v1/import", small("a1", "mia")).want(200)
	require.Equal(t, []any{"a1"}, one.get("imported"))
	require.Zero(t, one.len("errors"))
	require.Equal(t, true, p.check("mia", viewAction, "environment", "a1-e", one.revision()).get("decision"))
	require.Equal(t, one.revision(), p.do("POST", "/v1/import", small("a1", "mia")).want(200).revision(), "what stands already changes nothing")

	// Good ones in, bad ones wholly out, each with its line and fields.
	mixed := line(small("a2", "mia")) + "\n" + line(`{"account": {"id": "a3", "email": "none"}, "groups": [{"id": "g"}]}`) + "{\n" +
		line(`{"account": {"id": "a4", "email": "taken@example.com"}}`) + line(small("a5", "zoe"))
	got := p.do("POST", "/v1/import", mixed, ndjson).want(200)
	require.Equal(t, []any{"a2", "a5"}, got.get("imported"))
	require.Equal(t, 3, got.len("errors"), "%s", got.body)
	require.InDelta(t, 3, got.get("errors.0.line"), 0)
	require.Equal(t, "a3", got.text("errors.0.account"))
	require.Equal(t, 2, got.len("errors.0.errors"))
	require.ElementsMatch(t, []any{"account.email", "groups[0].name"}, []any{got.get("errors.0.errors.0.field"), got.get("errors.0.errors.1.field")})
	require.InDelta(t, 4, got.get("errors.1.line"), 0)
	require.Equal(t, "a4", got.text("errors.2.account"))
	p.do("GET", "/v1/accounts/a3", nil).want(404)
	p.do("GET", "/v1/accounts/a4", nil).want(404)

	array := p.do("POST", "/v1/import", "[\n"+small("a6", "mia")+",\n{\"account\": {}}\n]").want(200)
	require.Equal(t, []any{"a6"}, array.get("imported"))
	require.InDelta(t, 5, array.get("errors.0.line"), 0)

	refused := p.do("POST", "/v1/import", `[{"account": {"id": "a7", "email": "a7@example.com"}, "bogus": 1}]`).want(422)
	require.Equal(t, "a7", refused.text("errors.0.account"))
	p.do("POST", "/v1/import", `[]`).want(422)
	p.do("POST", "/v1/import", `[{"account":`).want(400)
	p.do("POST", "/v1/import", `nope`).want(400)
	p.do("POST", "/v1/import", strings.Repeat("[", 100_000)).want(400)
	p.do("POST", "/v1/import", "", ndjson).want(422)
	p.do("POST", "/v1/import", `[]`, with("Content-Type", "text/csv")).want(415)
	p.do("POST", "/v1/import?dry_run=true", `[]`).want(400)

	// A line over the limit is refused, and the ones after it are read.
	huge := io.MultiReader(strings.NewReader(`{"account": {"id": "a8", "email": "`), &filler{n: policies.MaxDocumentBytes}, strings.NewReader("\"}}\n"+line(small("a9", "mia"))))
	long := p.do("POST", "/v1/import", huge, ndjson).want(200)
	require.Equal(t, []any{"a9"}, long.get("imported"))
	require.Equal(t, 1, long.len("errors"))
}

// filler is n times x.
type filler struct{ n int }

func (f *filler) Read(b []byte) (int, error) {
	if f.n == 0 {
		return 0, io.EOF
	}
	n := min(len(b), f.n)
	copy(b, bytes.Repeat([]byte("x"), n))
	f.n -= n
	return n, nil
}
