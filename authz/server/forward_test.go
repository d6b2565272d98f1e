package server_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
)

// TestForward: what a proxy is told, with whatever method it asks.
func TestForward(t *testing.T) {
	t.Parallel()
	mapping, err := routes.Parse([]byte(`
subject: "{header:X-Account}"
routes:
  - {methods: [GET], path: "/e/{id}", action: acme.Say, resource: {type: environment, id: "{id}"}}
  - {path: "/open", public: true}
`))
	require.NoError(t, err)
	engine := newEngine(t, newState(t, company(t)), now)
	api, err := server.New(server.Options{Decider: engine, Searcher: engine, Routes: mapping})
	require.NoError(t, err)
	mux := http.NewServeMux()
	require.NoError(t, api.Mount(mux, server.Listener{Auth: server.AuthNone}))
	ask := func(headers ...string) (int, http.Header, string) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			r, err := http.NewRequestWithContext(t.Context(), method, server.PathForward, http.NoBody)
			require.NoError(t, err)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Add(headers[i], headers[i+1])
			}
			w := record(mux, r)
			if method == http.MethodDelete {
				return w.Code, w.Header(), w.Body.String()
			}
		}
		return 0, nil, ""
	}
	status, header, body := ask("X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/e/e", "X-Account", "mia")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, body)
	for name, want := range map[string]string{"Usher-Subject": "mia", "Usher-Reason": "granted", "Usher-Owner": "olga", "Usher-Revision": "7"} {
		require.Equal(t, want, header.Get(name))
	}
	status, header, body = ask("X-Original-Method", "GET", "X-Original-URI", "/e/f", "X-Account", "mia")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "text/plain; charset=utf-8", header.Get("Content-Type"))
	require.Equal(t, "mia may not do acme.Say on the environment f: not_shared.", body)
	status, header, _ = ask("X-Original-Method", "GET", "X-Original-URI", "/e/f", "X-Account", "no\tbody")
	require.Equal(t, http.StatusForbidden, status)
	require.Empty(t, header.Get("Usher-Subject"), "what is no account is not handed on")
	status, _, _ = ask("X-Original-Method", "GET", "X-Original-URI", "/open?x")
	require.Equal(t, http.StatusOK, status)
	for _, nobody := range [][]string{{}, {"X-Account", ""}, {"X-Account", "mia", "X-Account", "olga"}} {
		status, header, _ = ask(append(nobody, "X-Original-Method", "GET", "X-Original-URI", "/e/e")...)
		require.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, "Bearer", header.Get("WWW-Authenticate"))
	}
	for _, unclear := range [][]string{
		{"X-Original-Method", "GET"},
		{"X-Original-URI", "/e/e"},
		{"X-Original-Method", "GET", "X-Original-URI", ""},
		{"X-Original-Method", "GET", "X-Original-URI", "/e/e", "X-Original-URI", "/open"},
		{"X-Original-Method", "GET", "X-Original-URI", "/e/e", "X-Forwarded-Uri", "/e/e"},
		{"X-Original-Method", "GET", "X-Original-URI", "/e/e", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/open"},
		{"X-Original-Method", "POST", "X-Original-URI", "/e/e"},
		{"X-Original-Method", "GET", "X-Original-URI", "/nowhere"},
		{"X-Original-Method", "GET", "X-Original-URI", "http://x/e/e"},
	} {
		status, _, body = ask(append(unclear, "X-Account", "mia")...)
		require.Equal(t, http.StatusForbidden, status, "%v: %s", unclear, body)
		require.NotEmpty(t, body)
	}
	status, _, _ = ask("X-Account", "mia")
	require.Equal(t, http.StatusBadRequest, status, "a proxy that is not configured")
	status, _, body = ask("X-Original-Method", "GET", "X-Original-URI", "/e/e", "X-Account", "mia", "Usher-Min-Revision", "8")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, string(problem.RevisionBehind))
}
