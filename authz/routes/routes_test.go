package routes_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/routes"
)

const mapping = `
subject: "{claim:sub}"
routes:
  - methods: [GET, HEAD]
    path: /environments/{environment}
    action: env.Info
    resource: {type: environment, id: "{environment}"}
  - methods: [GET]
    path: /environments/special
    public: true
  - methods: [POST]
    path: /rpc/{method}
    subject: "{header:X-Account}"
    action: "acme.{method}"
    resource: {type: account, id: "{header:x-owner}"}
  - path: /files/{rest...}
    action: files.Any
    resource: {type: group, id: "g-{claim:team}"}
  - path: /
    public: true
`

func TestMatch(t *testing.T) {
	t.Parallel()
	rs, err := routes.Parse([]byte(mapping))
	require.NoError(t, err)
	ask := func(method, target string) (routes.Match, error) {
		return rs.Match(&routes.Request{
			Method: method, Target: target,
			Header: map[string][]string{"X-Account": {"mia"}, "X-Owner": {"olga"}},
			Claims: map[string]any{"sub": "nemo", "team": "blue", "n": 7.0},
		})
	}
	question := func(subject, action, kind, id string) authz.Question {
		return authz.Question{SubjectType: "account", Subject: subject, Action: action, ResourceType: kind, ResourceID: id}
	}
	for target, want := range map[string]routes.Match{
		"GET /environments/my-app":          {Question: question("nemo", "env.Info", "environment", "my-app")},
		"HEAD /environments/my%2dapp?x=/..": {Question: question("nemo", "env.Info", "environment", "my-app")},
		"GET /environments/special":         {Question: question("nemo", "env.Info", "environment", "special")}, // the first that matches
		"GET /environments/a%20b":           {Question: question("nemo", "env.Info", "environment", "a b")},
		"GET /environments/{environment}":   {Question: question("nemo", "env.Info", "environment", "{environment}")},
		"POST /rpc/Say":                     {Question: question("mia", "acme.Say", "account", "olga")},
		"PUT /files/a/b.c":                  {Question: question("nemo", "files.Any", "group", "g-blue")},
		"DELETE /":                          {Public: true},
		"GET /?":                            {Public: true},
	} {
		method, path, _ := strings.Cut(target, " ")
		got, err := ask(method, path)
		require.NoError(t, err, target)
		got.Context = nil
		require.Equal(t, want, got, target)
	}
	for _, target := range []string{
		"GET", "GET environments/x", "GET http://x/environments/x", "GET *", "get /environments/x", "POST /environments/x", "GET /environments",
		"GET /environments/", "GET /environments/x/", "GET /environments/x/y", "GET //environments/x", "GET /environments//x", "GET /./environments/x",
		"GET /a/../environments/x", "GET /a/%2e%2E/environments/x", "GET /environments/.", "GET /environments/%2e", "GET /environments/a%2fb",
		"GET /environments/a%5Cb", "GET /environments/a\\b", "GET /environments/a%25b", "GET /environments/a%3Bb", "GET /environments/a;b", "GET /environments/a%00",
		"GET /environments/a\x7f", "GET /environments/a%7f", "GET /environments/ä", "GET /environments/a%", "GET /environments/a%g1", "GET /environments/a#b",
		"GET /Environments/x", "PUT /files", "PUT /files/", "PUT /files/a//b", "PUT /files/../x", "GET //", "GET /%2f",
	} {
		method, path, _ := strings.Cut(target, " ")
		got, err := ask(method, path)
		var denied *routes.DeniedError
		require.ErrorAs(t, err, &denied, "%q: %+v", target, got)
		require.Equal(t, 403, denied.Status)
		require.NotEmpty(t, denied.Reason)
	}
}

// TestContext: what guardrails read of a request.
func TestContext(t *testing.T) {
	t.Parallel()
	rs, err := routes.Parse([]byte(`
subject: s
context: {ticket: "{header:x-ticket}", team: "team {claim:team}"}
routes:
  - {path: "/a/{id}", action: a, resource: {type: group, id: "{id}"}}
  - {path: "/b/{id}", action: a, resource: {type: group, id: "{id}"}, context: {address: "{header:X-Real-Ip}", id: "{id}"}}
  - {path: "/c", action: a, resource: {type: group, id: "c"}, context: {}}
  - {path: "/d", public: true}
`))
	require.NoError(t, err)
	for target, want := range map[string]string{
		"/a/x?ticket=9": `{"address":"10.0.0.1","method":"GET","path":"/a/x","team":"team blue","ticket":"OPS \"1\""}`,
		"/b/%41%20b":    `{"id":"A b","method":"GET","path":"/b/A b"}`,
		"/c":            `{"address":"10.0.0.1","method":"GET","path":"/c"}`,
		"/d":            ``,
	} {
		match, err := rs.Match(&routes.Request{
			Method: "GET", Target: target, Address: "10.0.0.1", Claims: map[string]any{"team": "blue"},
			Header: map[string][]string{"X-Ticket": {`OPS "1"`}, "X-Real-Ip": {"10.0.0.2", "10.0.0.3"}},
		})
		require.NoError(t, err, target)
		require.Equal(t, want, string(match.Context), target)
	}
	match, err := rs.Match(&routes.Request{Method: "GET", Target: "/a/x", Header: map[string][]string{"X-Ticket": {"\xff"}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"method":"GET","path":"/a/x","ticket":"\ufffd"}`, string(match.Context))
}

// TestMatchOfTheUnknown: without who, or on what, there is no check.
func TestMatchOfTheUnknown(t *testing.T) {
	t.Parallel()
	rs, err := routes.Parse([]byte(mapping))
	require.NoError(t, err)
	for _, c := range []struct {
		request routes.Request
		status  int
	}{
		{routes.Request{Method: "GET", Target: "/environments/x"}, 401},
		{routes.Request{Method: "GET", Target: "/environments/x", Claims: map[string]any{"sub": ""}}, 401},
		{routes.Request{Method: "GET", Target: "/environments/x", Claims: map[string]any{"sub": 7}}, 401},
		{routes.Request{Method: "POST", Target: "/rpc/Say", Header: map[string][]string{"X-Account": {"a", "b"}, "X-Owner": {"o"}}}, 401},
		{routes.Request{Method: "POST", Target: "/rpc/Say", Header: map[string][]string{"X-Account": {"a"}}}, 403},
		{routes.Request{Method: "PUT", Target: "/files/x", Claims: map[string]any{"sub": "a"}}, 403},
	} {
		_, err := rs.Match(&c.request)
		var denied *routes.DeniedError
		require.ErrorAs(t, err, &denied, "%+v", c.request)
		require.Equal(t, c.status, denied.Status, "%+v", c.request)
	}
}

// TestParseSaysAllThatIsWrong, at once.
func TestParseSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := routes.Parse([]byte(`
routes:
  - {path: "environments", action: a, resource: {type: environment, id: x}, subject: s}
  - {path: "/a//b", action: a, resource: {type: environment, id: x}, subject: s}
  - {path: "/a/{id}x", action: a, resource: {type: environment, id: x}, subject: s}
  - {path: "/a/{id}/{id}", action: a, resource: {type: environment, id: x}, subject: s}
  - {path: "/a/{rest...}/b", action: a, resource: {type: environment, id: x}, subject: s}
  - {path: "/ok/{id}", action: "{other}", resource: {type: planet, id: "{header:}"}, methods: [get, ""]}
  - {path: "/ok/{name}", methods: [get, ""], public: true, action: a}
  - {path: "/x", action: "a{b", resource: {type: group, id: "a}b"}, subject: "{claim:}"}
  - {path: "/y", action: a, resource: {type: group, id: b}, subject: s, context: {path: x, "a b": x, c: "{d}"}}
`))
	for _, want := range []string{
		"route 1 (environments): the path", "route 2 (/a//b): the path", "route 3 (/a/{id}x)", "route 4 (/a/{id}/{id})", "route 5 (/a/{rest...}/b)",
		"route 6 (/ok/{id}): the method \"get\"", "route 6 (/ok/{id}): the method \"\"", "route 6 (/ok/{id}): subject: it is empty",
		"route 6 (/ok/{id}): action: \"{other}\": {other} is no part of the path", "route 6 (/ok/{id}): resource.id: \"{header:}\"",
		"route 6 (/ok/{id}): resource.type \"planet\"", "route 7 (/ok/{name}): a public route has no action",
		"route 7 (/ok/{name}): is never reached: route 6", "route 8 (/x): action: \"a{b\"", "route 8 (/x): resource.id: \"a}b\"", "route 8 (/x): subject: \"{claim:}\"",
		"route 9 (/y): context.path: ", "route 9 (/y): context.a b: ", "route 9 (/y): context.c: ",
	} {
		require.ErrorContains(t, err, want)
	}
	for _, none := range []string{"", "routes: []", "routes: 7", "rouutes: []", "subject: a\nsubject: b", "routes:\n  - {path: /a, public: true, actions: x}", "\x00"} {
		_, err := routes.Parse([]byte(none))
		require.Error(t, err, none)
	}
}
