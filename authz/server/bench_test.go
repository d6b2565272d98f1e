package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/floor"
	"github.com/usher-authz/usher/authz/server"
)

// post is one request over a kept connection, whose answer must be want.
func post(b *testing.B, client *http.Client, url, body, want string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(b, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+checksToken)
	r.Header.Set("X-Request-ID", "bench")
	response, err := client.Do(r)
	require.NoError(b, err)
	got, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || string(got) != want {
		b.Fatalf("%d %s (%v), not %s", response.StatusCode, got, err, want)
	}
}

// BenchmarkHTTP compares the CPU time of a cached check, logged and not, with its
// floor: over loopback, client included, and as the handler alone, without net/http's
// own work.
func BenchmarkHTTP(b *testing.B) {
	state := newState(b, company(b))
	engine := newEngine(b, state, now)
	mux, logging := http.NewServeMux(), http.NewServeMux()
	require.NoError(b, newAPI(b, engine, server.StateTokens(engine.State)).Mount(mux, server.Listener{}))
	log, err := decisionlog.New(decisionlog.Options{Labels: map[string]string{"id": "bench"}, Console: io.Discard, Sample: 1})
	require.NoError(b, err)
	running, cancel := context.WithCancel(b.Context())
	var work sync.WaitGroup
	work.Go(func() { log.Run(running) })
	defer func() {
		cancel()
		work.Wait()
	}()
	logged, err := server.New(server.Options{Decider: log.Wrap(engine), Searcher: engine, Tokens: server.StateTokens(engine.State)})
	require.NoError(b, err)
	require.NoError(b, logged.Mount(logging, server.Listener{}))

	one := evaluation(b, ask("mia", "acme.Say", "environment", "e"), "")
	batch := `{"evaluations":[` + strings.TrimSuffix(strings.Repeat(one+",", 100), ",") + `]}`
	for _, c := range []struct{ name, path, body string }{
		{"evaluation", server.PathEvaluation, one},
		{"evaluations-100", server.PathEvaluations, batch},
	} {
		want := handle(b, mux, c.path, c.body)
		handlers := []struct {
			name    string
			handler http.Handler
		}{{"floor", floor.New(checksToken, want, want)}, {"usher", mux}, {"usher with a decision log", logging}}
		floors := map[string]float64{}
		for _, how := range []string{"handler", "loopback"} {
			for _, h := range handlers {
				b.Run(fmt.Sprintf("%s/%s/%s", c.name, how, h.name), func(b *testing.B) {
					b.ReportAllocs()
					began := cpuTime(b)
					if how == "handler" {
						for b.Loop() {
							handle(b, h.handler, c.path, c.body)
						}
					} else {
						web := httptest.NewServer(h.handler)
						defer web.Close()
						client := web.Client()
						began = cpuTime(b)
						for b.Loop() {
							post(b, client, web.URL+c.path, c.body, string(want))
						}
					}
					each := float64(cpuTime(b)-began) / float64(b.N)
					b.ReportMetric(each, "cpu-ns/op")
					if h.name == "floor" {
						floors[how] = each
					} else if floors[how] > 0 {
						b.ReportMetric(each/floors[how], "×floor")
					}
				})
			}
		}
	}
}

// cpuTime is what this process has used: the measure does not depend on what else the
// machine does, and has what is done in the background.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// handle calls a handler directly and returns the body of its answer.
func handle(b *testing.B, h http.Handler, path, body string) []byte {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+checksToken)
	r.Header.Set("X-Request-ID", "bench")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}
