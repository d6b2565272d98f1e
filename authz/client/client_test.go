package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/client"
	"github.com/usher-authz/usher/authz/client/ginclient"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

var mayMia = client.Question{Account: "mia", Action: "acme.Say", Resource: policies.Resource{Type: policies.TypeEnvironment, ID: "e"}}

const allowed = `{"decision":true,"context":{"reason":"granted","level":"direct","roles":["Dev"],"policies":["acme.say"],"owner":"olga","revision":7,"valid_until":"2997-01-01T00:00:00Z"}}`

// sidecar answers by turns with answers, the last one again and again: a status, or a
// decision.
func sidecar(t *testing.T, answers ...any) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/access/v1/evaluation" || r.Header.Get("Content-Type") != "application/json" ||
			string(body) != `{"subject":{"type":"account","id":"mia"},"action":{"name":"acme.Say"},"resource":{"type":"environment","id":"e"}}` {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		n := int(asked.Add(1)) - 1
		switch answer := answers[min(n, len(answers)-1)].(type) {
		case int:
			problem.Problem{Type: problem.Unavailable, Status: answer, Detail: "why"}.Write(w)
		case string:
			fmt.Fprint(w, answer)
		}
	}))
	t.Cleanup(s.Close)
	return s, &asked
}

func newClient(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: url})
	require.NoError(t, err)
	return c
}

// TestCheck: what may be asked again is, and only that; without an answer there is no
// allow.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []any
		asked   int64
		status  int // of the error; 0: an answer
	}{
		"at once":             {[]any{allowed}, 1, 0},
		"at the third try":    {[]any{503, 429, allowed}, 3, 0},
		"never":               {[]any{503}, 3, 503},
		"a fault":             {[]any{400, allowed}, 1, 400},
		"no token":            {[]any{401, allowed}, 1, 401},
		"an error inside":     {[]any{500, allowed}, 1, 500},
		"an answer that's no": {[]any{`{"decision":"true"}`}, 1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, asked := sidecar(t, c.answers...)
			d, err := newClient(t, server.URL+"/").Check(t.Context(), mayMia)
			require.Equal(t, c.asked, asked.Load())
			if c.status == 0 {
				require.NoError(t, err)
				require.Equal(t, client.Decision{
					Allow: true, Reason: policies.ReasonGranted, Level: policies.LevelDirect, Roles: []string{"Dev"},
					Policies: []policies.PolicyID{"acme.say"}, Owner: "olga", Revision: 7, ValidUntil: "2997-01-01T00:00:00Z",
				}, d)
				return
			}
			require.Zero(t, d)
			var status *client.StatusError
			if c.status > 0 {
				require.ErrorAs(t, err, &status)
				require.Equal(t, c.status, status.Status)
				require.ErrorContains(t, err, "why")
			} else {
				require.Error(t, err)
			}
		})
	}
	gone, _ := sidecar(t, allowed)
	gone.Close()
	d, err := newClient(t, gone.URL).Check(t.Context(), mayMia)
	require.Error(t, err)
	require.False(t, d.Allow)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	server, _ := sidecar(t, 503)
	_, err = newClient(t, server.URL).Check(ended, mayMia)
	require.ErrorIs(t, err, context.Canceled)
	for _, url := range []string{"", "localhost:1", "ftp://x", "http://", "http://u:p@x", "unix://x", "unix:"} {
		_, err := client.New(client.Options{URL: url})
		require.ErrorContains(t, err, "is not http[s]://", url)
	}
}

// TestHeaders: the token and the greatest revision go along, also over a Unix socket.
func TestHeaders(t *testing.T) {
	t.Parallel()
	var token, least string
	path := filepath.Join(t.TempDir(), "s")
	on, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, least = r.Header.Get("Authorization"), r.Header.Get("Usher-Min-Revision")
		fmt.Fprint(w, allowed)
	}))
	require.NoError(t, server.Listener.Close())
	server.Listener = on
	server.Start()
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{URL: "unix://" + path, Token: "ush_x"})
	require.NoError(t, err)
	_, err = c.Check(client.AtLeast(client.AtLeast(t.Context(), 9), 8), mayMia)
	require.NoError(t, err)
	require.Equal(t, "Bearer ush_x", token)
	require.Equal(t, "9", least)
}

// TestMiddleware: net/http and gin let through what is allowed, and nothing else.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer any
		nobody bool
		status int
	}{
		"allowed":     {allowed, false, http.StatusOK},
		"denied":      {`{"decision":false,"context":{"reason":"not_shared","revision":7}}`, false, http.StatusForbidden},
		"no answer":   {503, false, http.StatusServiceUnavailable},
		"nobody asks": {allowed, true, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := sidecar(t, c.answer)
			may := newClient(t, server.URL)
			ask := func() (client.Question, error) {
				if c.nobody {
					return client.Question{}, errors.New("nobody")
				}
				return mayMia, nil
			}
			plain := may.Require(func(*http.Request) (client.Question, error) { return ask() })(
				http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") }))
			engine := gin.New()
			engine.GET("/", ginclient.Require(may, func(*gin.Context) (client.Question, error) { return ask() }),
				func(g *gin.Context) { g.String(http.StatusOK, "done") })
			for _, handler := range []http.Handler{plain, engine} {
				w := httptest.NewRecorder()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
				require.NoError(t, err)
				handler.ServeHTTP(w, r)
				require.Equal(t, c.status, w.Code)
				require.Equal(t, c.status == http.StatusOK, w.Body.String() == "done")
			}
		})
	}
}
