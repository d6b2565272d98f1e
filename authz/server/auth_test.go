package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// TestRevokedToken: a token stops with the change that deletes it.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	state := newState(t, company(t))
	engine := newEngine(t, state, now)
	door := open(t, newAPI(t, engine, server.StateTokens(engine.State)), server.Listener{})
	require.True(t, door.post(t, server.PathEvaluation, whole).decision(t).Decision)
	require.NoError(t, engine.Apply(t.Context(), nextChange(t, startRevision+1, state.Hash(), policies.KindToken, "", "t-checks", nil)))
	requireProblem(t, http.StatusUnauthorized, problem.Unauthorized, door.post(t, server.PathEvaluation, whole))
}

// TestExpiry: a token counts while now < its end, by the clock that is given.
func TestExpiry(t *testing.T) {
	t.Parallel()
	state := newState(t)
	var at atomic.Int64
	clock := func() time.Time { return time.Unix(0, at.Load()) }
	authenticator := server.NewAuthenticator(server.StateTokens(func() *authz.State { return state }), clock)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+endedToken)
	end := now.Add(-time.Second)
	at.Store(end.UnixNano() - 1)
	token, err := authenticator.Authenticate(r)
	require.NoError(t, err)
	require.Equal(t, "t-ended", token.ID)
	at.Store(end.UnixNano())
	_, err = authenticator.Authenticate(r)
	require.ErrorIs(t, err, server.ErrUnauthorized)
}

// TestRequire: the middleware that the admin server has for its own endpoints.
func TestRequire(t *testing.T) {
	t.Parallel()
	state := newState(t)
	authenticator := server.NewAuthenticator(server.StateTokens(func() *authz.State { return state }), func() time.Time { return now })
	handler := authenticator.Require(policies.ScopeBundles, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	for token, status := range map[string]int{
		bundlesToken: http.StatusNoContent, checksToken: http.StatusForbidden, strangerToken: http.StatusUnauthorized,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		require.Equal(t, status, record(handler, r).Code)
	}
}

// broken is a decider that does what no decider should.
type broken struct {
	check func() (authz.Decision, error)
}

func (b broken) Check(context.Context, policies.Revision, authz.Question) (authz.Decision, error) {
	return b.check()
}

func (b broken) Decide(context.Context, policies.Revision, []authz.Question) ([]authz.Decision, error) {
	d, err := b.check()
	return []authz.Decision{d, d}, err
}

func (b broken) Search(context.Context, policies.Revision, authz.Search) (authz.Found, error) {
	d, err := b.check()
	return authz.Found{Revision: d.Revision}, err
}

// TestErrorsAreNeverAnAllow: a panic or an error inside is a 500 with a trace id
// that the log has too, and not a word of the cause.
func TestErrorsAreNeverAnAllow(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func() (authz.Decision, error){
		"error":              func() (authz.Decision, error) { return authz.Decision{Allow: true}, errors.New("the cause") },
		"panic":              func() (authz.Decision, error) { panic("the cause") }, //nolint:forbidigo // it is what is tested
		"panic of nil":       func() (authz.Decision, error) { var s *authz.State; return authz.Decision{Revision: s.Revision()}, nil },
		"too many decisions": func() (authz.Decision, error) { return authz.Decision{Allow: true}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			registry := prometheus.NewPedanticRegistry()
			api, err := server.New(server.Options{
				Decider: broken{check}, Searcher: broken{check}, Logger: slog.New(slog.NewJSONHandler(&log, nil)), Registerer: registry,
			})
			require.NoError(t, err)
			door := open(t, api, server.Listener{Auth: server.AuthNone})
			path, body := server.PathEvaluation, whole
			if name == "too many decisions" {
				path, body = server.PathEvaluations, `{"evaluations":[`+whole+`]}`
			}
			got := door.post(t, path, body, "X-Request-ID", "me")
			p := requireProblem(t, http.StatusInternalServerError, problem.Internal, got)
			require.Equal(t, "me", got.header.Get("X-Request-ID"))
			require.NotEmpty(t, p.TraceID)
			require.NotContains(t, string(got.body), "the cause")
			require.Contains(t, log.String(), p.TraceID)
			require.NotContains(t, log.String(), "olga", "a request body stands in the log")
			require.InDelta(t, 1, gathered(t, registry)["usher_server_refused_total "+strings.TrimPrefix(path, "/access/v1/")+" 500"], 0)
		})
	}
}

// TestHealth: what orchestrators ask.
func TestHealth(t *testing.T) {
	t.Parallel()
	ready := server.Readiness{Mode: "resident", Reason: "not yet"}
	mux := http.NewServeMux()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "usher_test_total", Help: "Test."}))
	server.Health{Ready: func() server.Readiness { return ready }, Gatherer: registry}.Mount(mux)
	get := func(path string) (int, string, http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("X-Request-ID", "me")
		w := record(mux, r)
		require.Equal(t, "me", w.Header().Get("X-Request-ID"))
		return w.Code, w.Body.String(), w.Header()
	}
	status, body, _ := get("/health")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ok"}`, body)
	status, body, header := get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "1", header.Get("Retry-After"))
	require.JSONEq(t, `{"ready":false,"reason":"not yet","mode":"resident","revision":0}`, body)
	ready = server.Readiness{Ready: true, Mode: "resident", Revision: 9, Age: new(1500 * time.Millisecond)}
	status, body, _ = get("/ready")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"ready":true,"mode":"resident","revision":9,"age_seconds":1.5}`, body)
	status, body, _ = get("/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "usher_test_total 0")
}

// TestMetrics: decisions are counted by outcome and reason, items of batches too.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	engine := newEngine(t, newState(t, company(t)), now)
	api, err := server.New(server.Options{Decider: engine, Searcher: engine, Registerer: registry})
	require.NoError(t, err)
	door := open(t, api, server.Listener{Auth: server.AuthNone})
	door.post(t, server.PathEvaluation, whole)
	door.post(t, server.PathEvaluations, `{"evaluations":[`+whole+`,{}]}`)
	door.post(t, server.PathEvaluation, `{}`)
	require.Equal(t, map[string]float64{
		"usher_server_decisions_total allow owner":          2,
		"usher_server_decisions_total deny invalid_request": 1,
		"usher_server_refused_total evaluation 400":         1,
		"usher_server_duration_seconds evaluation":          2,
		"usher_server_duration_seconds evaluations":         1,
		"usher_server_batch_items":                          1,
	}, gathered(t, registry))
	// Two APIs cannot share a registry.
	_, err = server.New(server.Options{Decider: engine, Searcher: engine, Registerer: registry})
	require.ErrorContains(t, err, "register the metrics of the check API")
}

// gathered is every counter that is not zero, and the count of each histogram, by
// name and labels.
func gathered(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			if c := metric.GetCounter(); c != nil && c.GetValue() != 0 {
				found[name] = c.GetValue()
			}
			if h := metric.GetHistogram(); h != nil && h.GetSampleCount() > 0 {
				found[name] = float64(h.GetSampleCount())
			}
		}
	}
	return found
}
