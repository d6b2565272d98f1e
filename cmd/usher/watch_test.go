package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWatchDecisions: changes and decisions in one table, of one account, and after a
// connection that broke on from where it was.
func TestWatchDecisions(t *testing.T) {
	t.Parallel()
	event := func(place int, owner string) string {
		return fmt.Sprintf("id: %d\nevent: decision\ndata: "+`{"id":"d%[1]d","time":"2026-11-26T01:02:0%[1]dZ","subject":"mia","action":"a.Stop",`+
			`"resource":{"type":"environment","id":"e"},"outcome":"deny","reason":"not_shared","revision":7,`+
			`"event":{"result":{"decision":false,"context":{"owner":%q}}}}`+"\n\n", place, owner)
	}
	var connections atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/accounts/own/events", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "id: 7\nevent: ready\ndata: {\"revision\":7}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /v1/decisions/events", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("outcome") != "deny" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		if connections.Add(1) == 1 {
			_, _ = fmt.Fprint(w, "id: 0\nevent: ready\ndata: {\"place\":0}\n\n"+event(1, "own")+event(2, "other"))
			return // it breaks
		}
		if r.Header.Get("Last-Event-ID") != "2" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = fmt.Fprint(w, event(3, "own")+event(4, "own"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	code, stdout, stderr := run(t, nil, "watch", "--admin-url", server.URL, "--account", "own", "--decisions", "--outcome", "deny", "--count", "2")
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "begins anew")
	require.Contains(t, stdout, "7           2026-11-26T01:02:01Z  mia                   a.Stop                  environment:e: deny (not_shared)\n")
	require.Contains(t, stdout, "2026-11-26T01:02:03Z")
	require.NotContains(t, stdout, "2026-11-26T01:02:02Z", "of another owner")
	require.NotContains(t, stdout, "2026-11-26T01:02:04Z", "there were enough")
}
