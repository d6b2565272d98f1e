package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// answering is a sidecar that gives one answer, and what it was asked.
func answering(t *testing.T, status int, answer string) (url string, asked *string) {
	t.Helper()
	asked = new(string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = r.Header.Get("Authorization") + " " + string(body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestCheckExitCodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		answer string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"allow":          {200, `{"decision": true, "context": {"reason": "granted", "revision": 7}}`, nil, 0, "allow: granted\n", ""},
		"deny":           {200, `{"decision": false, "context": {"reason": "not_shared", "revision": 7}}`, nil, 1, "deny: not_shared\n", ""},
		"wrong token":    {401, `{"title": "Credentials are missing or wrong", "detail": "The token is not known."}`, nil, 2, "", "answered 401: The token is not known."},
		"not there yet":  {503, `{"title": "The revision is not here yet"}`, nil, 2, "", "answered 503: The revision is not here yet"},
		"no JSON":        {200, `<html>`, nil, 2, "", "something else than JSON"},
		"another server": {200, `{}`, nil, 2, "", "is --sidecar-url the URL of a usher sidecar?"},
		"bad resource":   {200, `{}`, []string{"ben", "a.B", "shop"}, 2, "", `"shop" is not TYPE:ID`},
		"usage":          {200, `{}`, []string{"ben"}, 2, "", "expected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := answering(t, c.status, c.answer)
			args := c.args
			if args == nil {
				args = []string{"ben", "environment.control.StartEnv", "environment:shop-web-eu"}
			}
			env := map[string]string{"USHER_SIDECAR_URL": url, "USHER_TOKEN": "hush-hush"}
			code, stdout, stderr := run(t, env, append([]string{"check"}, args...)...)
			require.Equal(t, c.code, code, stderr)
			require.Equal(t, c.stdout, stdout)
			require.Contains(t, stderr, c.stderr)
			require.NotContains(t, stderr, "hush-hush")
			require.LessOrEqual(t, strings.Count(stderr, "\n"), 1, stderr)
		})
	}
	code, _, stderr := run(t, nil, "check", "ben", "a.B", "environment:e")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "give --sidecar-url or set USHER_SIDECAR_URL")
}

func TestCheckExplains(t *testing.T) {
	t.Parallel()
	url, asked := answering(t, 200, `{"decision": false, "context": {"reason": "action_not_granted", "level": "shared_env_groups",
		"roles": ["Developer"], "owner": "northwind", "revision": 12, "valid_until": "2027-01-01T00:00:00Z",
		"levels": {"direct": [], "shared_env_groups": [{"group": "shop-prod", "roles": ["Developer"], "inherited_from": "shop"},
			{"group": "on-call", "roles": ["Viewer"], "inherited_from": "groups"}], "base": ["Viewer"]},
		"missing_roles": ["Admin"]}}`)
	code, stdout, stderr := run(t, nil, "check", "--explain", "--min-revision", "11", "--sidecar-url", url, "--token", "hush-hush",
		"ben", "environment.control.DeleteEnv", "environment:shop-web-eu")
	require.Equal(t, 1, code)
	require.Empty(t, stderr)
	body, ok := strings.CutPrefix(*asked, "Bearer hush-hush ")
	require.True(t, ok, *asked)
	require.JSONEq(t, `{"subject":{"type":"account","id":"ben"},"action":{"name":"environment.control.DeleteEnv"},`+
		`"resource":{"type":"environment","id":"shop-web-eu"},"context":{"min_revision":11,"explain":true}}`, body)
	require.Equal(t, `decision     deny
reason       action_not_granted (the roles of the winning level do not allow the action)
subject      ben
action       environment.control.DeleteEnv
resource     environment:shop-web-eu
owner        northwind
level        shared_env_groups
roles        Developer
valid until  2027-01-01T00:00:00Z
missing      any of the roles Admin
revision     12

LEVEL              FOUND ON                         ROLES
direct             environment:shop-web-eu          -
shared_env_groups  group:shop-prod (by group:shop)  Developer
shared_env_groups  group:on-call (by all groups)    Viewer
base               all environments                 Viewer
`, stdout)
}
