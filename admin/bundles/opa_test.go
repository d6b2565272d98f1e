package bundles_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/bundles"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/signing"
)

// opaProgram is a stock opa: USHER_TEST_OPA, else the one that go.mod pins.
func opaProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("USHER_TEST_OPA"); program != "" {
		return program
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "opa").Output() // builds it, once for all runs
	require.NoError(t, err, "build opa")
	return strings.TrimSpace(string(out))
}

// opa is a stock OPA server on a socket, fed by a bundle endpoint.
type opa struct {
	client *http.Client
	output *bytes.Buffer
	done   chan struct{}
}

func startOPA(t *testing.T, url, polling string, key *signing.PublicKey) *opa {
	t.Helper()
	dir, err := os.MkdirTemp("", "opa") //nolint:usetesting // t.TempDir is too long for the path of a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	config, socket := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "s")
	public, err := key.PEM()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
services: {usher: {url: %q, credentials: {bearer: {token: secret}}}}
bundles: {usher: {service: usher, resource: v1/bundles/usher.tar.gz, polling: %s, signing: {keyid: %q}}}
keys: {%q: {algorithm: ES256, key: %q}}
`, url, polling, key.ID(), key.ID(), public), 0o600))
	o := &opa{output: new(bytes.Buffer), done: make(chan struct{})}
	cmd := exec.CommandContext(t.Context(), opaProgram(t), "run", "--server", "--addr", "unix://"+socket,
		"--config-file", config, "--log-level", "debug", "--disable-telemetry")
	cmd.Stdout, cmd.Stderr = o.output, o.output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	go func() {
		defer close(o.done)
		_ = cmd.Wait()
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	o.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		<-o.done // t.Context has ended
		if t.Failed() {
			t.Log(o.output)
		}
	})
	return o
}

type opaDecision struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason   policies.Reason     `json:"reason"`
		Revision policies.Revision   `json:"revision"`
		Level    policies.Level      `json:"level"`
		Roles    []string            `json:"roles"`
		Policies []policies.PolicyID `json:"policies"`
	} `json:"context"`
}

// ask asks the decision; ok is false while OPA has none.
func (o *opa) ask(t *testing.T, q policiestest.Question) (d opaDecision, ok bool) {
	t.Helper()
	raw := o.raw(t, q, false)
	if raw == nil || json.Unmarshal(raw, &d) != nil {
		return d, false // not listening yet, or no bundle yet
	}
	return d, true
}

// raw is the result of the decision as OPA gives it; nil while there is none.
func (o *opa) raw(t *testing.T, q policiestest.Question, explain bool) jsontext.Value {
	t.Helper()
	body, err := json.Marshal(map[string]any{"input": map[string]any{
		"subject":  map[string]any{"type": q.SubjectType, "id": q.Subject},
		"action":   map[string]any{"name": q.Action},
		"resource": map[string]any{"type": q.ResourceType, "id": q.ResourceID},
		"context":  map[string]any{"explain": explain},
	}})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://opa/v1/data/usher/authz/decision", bytes.NewReader(body))
	require.NoError(t, err)
	resp, err := o.client.Do(r)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct {
		Result jsontext.Value `json:"result"`
	}
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, json.UnmarshalRead(resp.Body, &answer))
	return answer.Result
}

// await asks until OPA answers from revision rev.
func (o *opa) await(t *testing.T, rev policies.Revision, q policiestest.Question) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		d, ok := o.ask(t, q)
		require.True(c, ok && d.Context.Revision == rev, "revision %d", d.Context.Revision)
	}, 30*time.Second, 5*time.Millisecond)
}

// TestStockOPA: OPA, fed by the endpoint, verifies what it gets, answers every vector,
// and follows each change: by long polling at once, by polling within its interval, and with the
// ETags of what it had before among those that it sends.
func TestStockOPA(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name, polling string
		worlds        int // the first so many; 0: all
	}{
		{"long polling", `{long_polling_timeout_seconds: 30}`, 0},
		{"superseded tags", `{long_polling_timeout_seconds: 30, superseded_etag_ttl_seconds: 600}`, 0},
		{"polling", `{min_delay_seconds: 1, max_delay_seconds: 1}`, 3}, // a second for each
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, time.Millisecond)
			all := vectors(t)
			if mode.worlds > 0 {
				all = all[:mode.worlds]
			}
			f.set(stateOf(t, 1, f.policy, all[0].Document))
			mux := http.NewServeMux()
			mux.HandleFunc(bundles.Pattern, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer secret" {
					http.Error(w, "who are you?", http.StatusUnauthorized)
					return
				}
				f.handler.ServeHTTP(w, r)
			})
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			o := startOPA(t, server.URL, mode.polling, f.key.Public())
			for i, v := range all {
				rev := policies.Revision(i + 1)
				f.set(stateOf(t, rev, f.policy, v.Document))
				o.await(t, rev, v.Checks[0].Question())
				for _, c := range v.Checks {
					got, ok := o.ask(t, c.Question())
					require.True(t, ok)
					want := opaDecision{Decision: c.Decision}
					want.Context.Reason, want.Context.Revision = c.Reason, rev
					want.Context.Level, want.Context.Roles, want.Context.Policies = c.Level, c.Roles, c.Policies
					require.Equal(t, want, got, "%s: %+v", v.Name, c)
				}
			}
		})
	}
}

// TestStockOPAAgrees: over random worlds, OPA's decision is the engine's, whole.
func TestStockOPAAgrees(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Millisecond)
	mux := http.NewServeMux()
	mux.Handle(bundles.Pattern, f.handler)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	f.set(f.stateAt(t, 1))
	o := startOPA(t, web.URL, `{long_polling_timeout_seconds: 30}`, f.key.Public())
	now := time.Now().UTC()
	for i := range 5 {
		rev := policies.Revision(i + 2)
		seed := rand.Uint64()
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(t, err)
		platform := stateOf(t, rev, f.policy, world.Documents...)
		f.set(platform)
		engine := engineOf(t, platform)
		o.await(t, rev, world.Question(dice))
		for ask := range 40 {
			q, explain := world.Question(dice), ask%2 == 0
			d, err := engine.Check(t.Context(), rev, authz.Question{
				SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action, ResourceType: q.ResourceType, ResourceID: q.ResourceID, Explain: explain,
			})
			require.NoError(t, err)
			require.JSONEq(t, string(server.AppendDecision(nil, &d)), string(o.raw(t, q, explain)), "seed %d: %+v", seed, q)
		}
	}
}

// engineOf is usher's own engine on the bundle of a platform.
func engineOf(t *testing.T, platform policies.PlatformData) *authz.Engine {
	t.Helper()
	var packed bytes.Buffer
	require.NoError(t, policies.WriteBundle(&packed, platform))
	contents, err := policies.ReadBundle(&packed)
	require.NoError(t, err)
	builder := authz.NewBuilder(authz.Header{Platform: contents.PlatformID(), Revision: contents.Revision()})
	for object, err := range contents.Objects() {
		require.NoError(t, err)
		require.NoError(t, builder.Add(object))
	}
	state, err := builder.Build(t.Context())
	require.NoError(t, err)
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	require.NoError(t, engine.Reset(state))
	return engine
}
