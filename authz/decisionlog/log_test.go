package decisionlog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/policies"
)

// decider says yes to everybody but eve.
type decider struct{}

func (decider) Check(_ context.Context, _ policies.Revision, q authz.Question) (authz.Decision, error) {
	if q.Subject == "eve" {
		return authz.Decision{Reason: policies.ReasonNotShared, Owner: "own", Revision: 7}, nil
	}
	return authz.Decision{
		Allow: true, Reason: policies.ReasonGranted, Level: policies.LevelDirect, Roles: []string{"Dev"},
		Policies: []policies.PolicyID{"p"}, Owner: "own", Revision: 7,
	}, nil
}

func (d decider) Decide(ctx context.Context, least policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	decisions := make([]authz.Decision, len(questions))
	for i, q := range questions {
		decisions[i], _ = d.Check(ctx, least, q)
	}
	return decisions, nil
}

func question(subject string) authz.Question {
	return authz.Question{
		SubjectType: "account", Subject: subject, Action: "a.Start", ResourceType: "environment", ResourceID: "e",
		Request: &authz.Request{
			Context: []byte(`{"ticket":"T-1","secret":"s3"}`), SubjectProperties: []byte(`{"tags":["x","y"],"email":"mia@example.com"}`),
			ID: "r1", RemoteAddr: "10.0.0.1:1234",
		},
	}
}

// collector keeps what is posted to it, and answers as its statuses say, at last 204.
type collector struct {
	*httptest.Server

	mu       sync.Mutex
	statuses []int
	events   []map[string]any
}

func newCollector(t *testing.T, statuses ...int) *collector {
	t.Helper()
	c := &collector{statuses: statuses}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.statuses) > 0 {
			w.WriteHeader(c.statuses[0])
			c.statuses = c.statuses[1:]
			return
		}
		unpacked, err := gzip.NewReader(r.Body)
		var events []map[string]any
		if err == nil {
			err = json.NewDecoder(unpacked).Decode(&events)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.events = append(c.events, events...)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) all() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events
}

// run runs a log until the end of ask, and gives its metrics.
func run(t *testing.T, o decisionlog.Options, ask func(authz.Decider)) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Registerer, o.Logger = registry, slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.Labels == nil {
		o.Labels = map[string]string{"id": "i1"}
	}
	log, err := decisionlog.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { log.Run(ctx) })
	ask(log.Wrap(decider{}))
	cancel()
	running.Wait()
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "usher_decision_log_")
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			found[name] = m.GetCounter().GetValue()
		}
	}
	return found
}

func check(t *testing.T, d authz.Decider, subjects ...string) {
	t.Helper()
	for _, s := range subjects {
		_, err := d.Check(t.Context(), 0, question(s))
		require.NoError(t, err)
	}
}

const rules = `package system.log
drop if input.input.subject.id == "monitor"
mask contains "/input/context/secret"
mask contains "/input/subject/properties/tags/0"
mask contains "/result/context/nothing"
mask contains {"op": "upsert", "path": "/input/subject/properties/email", "value": "***"}
mask contains {"op": "upsert", "path": "/input/context/new/deep", "value": 1}
mask contains "/result/context/roles" if input.result.decision`

// TestAsOPA: an event is the one that OPA's own plugin sends of the same decision,
// rules applied.
func TestAsOPA(t *testing.T) {
	t.Parallel()
	compiled, err := decisionlog.NewRules(t.Context(), map[string]string{"rules.rego": rules})
	require.NoError(t, err)
	ours := newCollector(t)
	metrics := run(t, decisionlog.Options{URL: ours.URL, Sample: 1, Rules: compiled}, func(d authz.Decider) { check(t, d, "mia", "eve", "monitor") })
	require.InDelta(t, 2, metrics["sent_total"], 0)
	require.InDelta(t, 1, metrics["left_out_total/rule"], 0)
	require.Len(t, ours.all(), 2)

	theirs := newCollector(t)
	store := inmem.New()
	require.NoError(t, storage.Txn(t.Context(), store, storage.WriteParams, func(txn storage.Transaction) error {
		return store.UpsertPolicy(t.Context(), txn, "rules.rego", []byte(rules))
	}))
	manager, err := plugins.New(fmt.Appendf(nil, `{"services":{"c":{"url":%q}}}`, theirs.URL), "i1", store)
	require.NoError(t, err)
	require.NoError(t, manager.Init(t.Context()))
	config, err := logs.ParseConfig([]byte(`{"service":"c","resource":"/"}`), manager.Services(), nil)
	require.NoError(t, err)
	plugin := logs.New(config, manager)
	require.NoError(t, plugin.Start(t.Context()))
	for i, event := range ours.all() {
		q := question([]string{"mia", "eve"}[i])
		d, err := decider{}.Check(t.Context(), 0, q)
		require.NoError(t, err)
		context := map[string]any{"reason": string(d.Reason), "owner": "own", "revision": json.Number("7")}
		if d.Allow {
			context["level"], context["roles"], context["policies"] = "direct", []any{"Dev"}, []any{"p"}
		}
		input := any(map[string]any{
			"subject":  map[string]any{"type": "account", "id": q.Subject, "properties": map[string]any{"tags": []any{"x", "y"}, "email": "mia@example.com"}},
			"action":   map[string]any{"name": "a.Start"},
			"resource": map[string]any{"type": "environment", "id": "e"},
			"context":  map[string]any{"ticket": "T-1", "secret": "s3"},
		})
		result := any(map[string]any{"decision": d.Allow, "context": context})
		at, err := time.Parse(time.RFC3339Nano, event["timestamp"].(string))
		require.NoError(t, err)
		require.NoError(t, storage.Txn(t.Context(), store, storage.TransactionParams{}, func(txn storage.Transaction) error {
			return plugin.Log(t.Context(), &server.Info{
				Txn: txn, DecisionID: event["decision_id"].(string), Bundles: map[string]server.BundleInfo{"usher": {Revision: "7"}},
				Path: "usher/authz/decision", Input: &input, Results: &result, RemoteAddr: "10.0.0.1:1234", Timestamp: at,
				Custom: map[string]any{"x_request_id": "r1"},
			})
		}))
	}
	flushing, cancel := context.WithTimeout(t.Context(), time.Minute) // without a deadline it does not send what it has
	defer cancel()
	plugin.Stop(flushing)
	manager.Stop(t.Context())
	require.Len(t, theirs.all(), 2)
	for i, want := range theirs.all() {
		event := ours.all()[i]
		require.Positive(t, event["metrics"].(map[string]any)["timer_server_handler_ns"])
		delete(event, "metrics")
		delete(want["labels"].(map[string]any), "version") // OPA's own
		for _, e := range []map[string]any{event, want} {  // a set has no order
			for _, name := range []string{"erased", "masked"} {
				if list, ok := e[name].([]any); ok {
					e[name] = len(list)
				}
			}
		}
		require.Equal(t, want, event)
	}
	require.NotContains(t, fmt.Sprint(ours.all()), "s3")
	require.NotContains(t, fmt.Sprint(ours.all()), "mia@example.com")
}

func TestSinks(t *testing.T) {
	t.Parallel()
	var console bytes.Buffer
	file := filepath.Join(t.TempDir(), "decisions.log")
	c := newCollector(t, 503, 500, 401) // it takes them at last
	metrics := run(t, decisionlog.Options{Console: &console, File: file, URL: c.URL, Sample: 0}, func(d authz.Decider) {
		check(t, d, "mia", "eve")
		_, err := d.Decide(t.Context(), 0, []authz.Question{question("eve"), question("max"), question("eve")})
		require.NoError(t, err)
	})
	require.InDelta(t, 3, metrics["events_total"], 0, "denials are never left out")
	require.InDelta(t, 2, metrics["left_out_total/sample"], 0)
	require.InDelta(t, 3, metrics["sent_total"], 0)
	require.Len(t, c.all(), 3)
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, console.String(), string(written))
	require.Equal(t, 3, strings.Count(console.String(), "\n"))
	for line := range strings.Lines(console.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

// What is lost is counted.
func TestDrops(t *testing.T) {
	t.Parallel()
	c := newCollector(t, 400)
	metrics := run(t, decisionlog.Options{URL: c.URL, Sample: 1}, func(d authz.Decider) { check(t, d, "mia", "eve") })
	require.InDelta(t, 2, metrics["dropped_total/refused"], 0)

	failing, err := decisionlog.NewRules(t.Context(), map[string]string{"r.rego": `package system.log
mask contains "/input" if to_number(input.input.subject.id) == 1`})
	require.NoError(t, err)
	var console bytes.Buffer
	metrics = run(t, decisionlog.Options{Console: &console, Sample: 1, Rules: failing}, func(d authz.Decider) { check(t, d, "mia") })
	require.InDelta(t, 1, metrics["dropped_total/rules_failed"], 0)
	require.Empty(t, console.String())

	// The first write waits until all have asked: no check waits for it.
	blocked := make(chan struct{})
	metrics = run(t, decisionlog.Options{Console: writer(func(p []byte) (int, error) { <-blocked; return len(p), nil }), Sample: 1, Buffer: 4}, func(d authz.Decider) {
		check(t, d, strings.Fields(strings.Repeat("mia ", 1000))...)
		close(blocked)
	})
	require.Positive(t, metrics["dropped_total/buffer_full"])
	require.InDelta(t, 1000, metrics["events_total"]+metrics["dropped_total/buffer_full"], 0)
}

// What one caller sends neither fills the memory nor takes the events of others along.
func TestLargeRequests(t *testing.T) {
	t.Parallel()
	deep := []byte(`{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`)
	var console bytes.Buffer
	metrics := run(t, decisionlog.Options{Console: &console, Sample: 1}, func(d authz.Decider) {
		large := question(strings.Repeat("ä", 100_000))
		large.Request.Context, large.Request.ID = deep, strings.Repeat("x", 10_000)
		_, err := d.Check(t.Context(), 0, large)
		require.NoError(t, err)
		check(t, d, "mia")
	})
	require.InDelta(t, 2, metrics["events_total"], 0)
	first, second, _ := strings.Cut(console.String(), "\n")
	require.Less(t, len(first), 4<<10)
	var event map[string]any
	require.NoError(t, json.Unmarshal([]byte(first), &event))
	require.Contains(t, event["erased"], "/input/context")
	require.NotContains(t, first, "[[")
	require.NotContains(t, second, "erased")
	require.Contains(t, second, "T-1")

	// The buffer is bounded in bytes, too.
	blocked := make(chan struct{})
	metrics = run(t, decisionlog.Options{
		Console: writer(func(p []byte) (int, error) { <-blocked; return len(p), nil }), Sample: 1,
	}, func(d authz.Decider) {
		q := question("mia")
		q.Request.Context = []byte(`"` + strings.Repeat("x", 16_000) + `"`)
		for range 5000 {
			_, err := d.Check(t.Context(), 0, q)
			require.NoError(t, err)
		}
		close(blocked)
	})
	require.Positive(t, metrics["dropped_total/buffer_full"])
	require.InDelta(t, 5000, metrics["events_total"]+metrics["dropped_total/buffer_full"], 0)
}

type writer func([]byte) (int, error)

// Write is io.Writer's.
func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestOptionsAndRules(t *testing.T) {
	t.Parallel()
	err := decisionlog.Options{Sample: 2, Buffer: -1, URL: "ftp://x"}.Validate()
	for _, reason := range []string{"somewhere to go", "from 0 to 1", "negative", "is not http"} {
		if reason != "somewhere to go" {
			require.ErrorContains(t, err, reason)
		}
	}
	require.ErrorContains(t, decisionlog.Options{}.Validate(), "somewhere to go")
	for source, reason := range map[string]string{
		"package x":          "neither data.system.log.drop nor",
		"package system.log": "neither data.system.log.drop nor",
		"package system.log\ndrop if http.send({})": "http.send",
		"package": "rego_parse_error",
	} {
		_, err := decisionlog.NewRules(t.Context(), map[string]string{"r.rego": source})
		require.ErrorContains(t, err, reason)
	}
}

// BenchmarkLog: what a decision costs that is logged, beside one that is not.
func BenchmarkLog(b *testing.B) {
	log, err := decisionlog.New(decisionlog.Options{Labels: map[string]string{"id": "i"}, Console: io.Discard, Sample: 1, Buffer: 1 << 16})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { log.Run(ctx) })
	q := question("mia")
	for name, d := range map[string]authz.Decider{"plain": decider{}, "logged": log.Wrap(decider{})} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d, err := d.Check(ctx, 0, q); err != nil || !d.Allow {
					b.Fatal(err)
				}
			}
		})
	}
	cancel()
	running.Wait()
}
