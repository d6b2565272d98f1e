package sidecar_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// soon is how long a test waits for what should happen at once.
const soon = 20 * time.Second

// adminToken is the service token of the tests' platform, of every scope.
var adminToken = policies.TokenPrefix + strings.Repeat("t", 43)

func policyInForce(tb testing.TB) policies.PolicyInForce {
	tb.Helper()
	policy, err := policiestest.PolicyInForce()
	require.NoError(tb, err)
	return policy
}

// company is one owner, olga, who gives mia a role on the environment e.
func company(tb testing.TB) policies.Document {
	tb.Helper()
	document, err := policies.DecodeDocument([]byte(`{
		"account": {"id": "olga", "email": "olga@example.com"},
		"environments": [{"id": "e", "name": "E"}],
		"roles": [{"id": "r", "name": "Viewer", "policies": ["environment.view"]}],
		"members": [{"account": {"id": "mia", "email": "mia@example.com"},
			"grants": [{"resource": {"type": "environment", "id": "e"}, "roles": ["r"]}]}]}`))
	require.NoError(tb, err)
	return document
}

// bundleOf is an OPA bundle of documents at a revision.
func bundleOf(tb testing.TB, revision policies.Revision, documents ...policies.Document) []byte {
	tb.Helper()
	return bundleUnder(tb, policyInForce(tb), revision, documents...)
}

// bundleUnder is bundleOf under another policy.
func bundleUnder(tb testing.TB, inForce policies.PolicyInForce, revision policies.Revision, documents ...policies.Document) []byte {
	tb.Helper()
	platform, err := policiestest.NewDocumentsPlatform(revision, inForce, documents...)
	require.NoError(tb, err)
	var bundle bytes.Buffer
	require.NoError(tb, policies.WriteBundle(&bundle, platform))
	return bundle.Bytes()
}

// start makes a sidecar on a free port of loopback, unless o says otherwise, and
// stops it with the test.
func start(t *testing.T, o sidecar.Options) *sidecar.Sidecar {
	t.Helper()
	if o.Listen == "" && o.Socket == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := sidecar.New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	require.NoError(t, s.Err())
}

// eventually polls until is.
func eventually(t *testing.T, is func() bool, what string) {
	t.Helper()
	require.Eventually(t, is, soon, 5*time.Millisecond, what)
}

// caller asks a sidecar.
type caller struct {
	url, token string
	http       *http.Client
}

// call makes a caller whose connections end with the test.
func call(t *testing.T, url string, transport *http.Transport) caller {
	t.Helper()
	if transport == nil {
		transport = &http.Transport{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return caller{url: url, http: &http.Client{Transport: transport}}
}

// bySocket is the way to a Unix socket.
func bySocket(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
}

type decision struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason   policies.Reason     `json:"reason"`
		Level    policies.Level      `json:"level"`
		Roles    []string            `json:"roles"`
		Policies []policies.PolicyID `json:"policies"`
		Revision policies.Revision   `json:"revision"`
	} `json:"context"`
}

// check asks one question, and returns the status and what the answer decides.
func (c caller) check(t *testing.T, subject, action, kind, id string, headers ...string) (int, decision) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"subject": map[string]any{"type": "account", "id": subject}, "action": map[string]any{"name": action},
		"resource": map[string]any{"type": kind, "id": id},
	})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+server.PathEvaluation, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var d decision
	if response.StatusCode == http.StatusOK {
		require.NoError(t, json.Unmarshal(text, &d))
	}
	return response.StatusCode, d
}

// view asks whether mia may look at e.
func (c caller) view(t *testing.T, headers ...string) (int, decision) {
	t.Helper()
	return c.check(t, "mia", "environment.control.GetEnvInfo", "environment", "e", headers...)
}

func (c caller) status(t *testing.T, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, http.NoBody)
	require.NoError(t, err)
	response, err := c.http.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// admin is the feed of an admin server: a snapshot, then what the test writes, with
// heartbeats. The real one stands in the admin room, above this one.
type admin struct {
	web   *httptest.Server
	mu    sync.Mutex
	state *authz.State
	more  chan struct{} // closed at each change
	log   []policies.Change
}

// serveFeed serves the feed of a platform with documents and adminToken.
func serveFeed(t *testing.T, documents ...policies.Document) *admin {
	t.Helper()
	builder := authz.NewBuilder(authz.Header{Platform: "test", Revision: 1})
	add := func(kind policies.Kind, id string, body any) {
		object, err := policies.NewObject(kind, "", id, body)
		require.NoError(t, err)
		require.NoError(t, builder.Add(object))
	}
	add(policies.KindPolicyInForce, string(policies.KindPolicyInForce), policyInForce(t))
	add(policies.KindToken, "t", policies.TokenBody{Hash: policies.HashToken(adminToken), Scopes: policies.Scopes})
	for _, document := range documents {
		for _, member := range document.Members {
			add(policies.KindAccount, string(*member.Account.ID), policies.AccountBody{})
		}
		objects, err := document.Objects()
		require.NoError(t, err)
		for _, object := range objects {
			require.NoError(t, builder.Add(object))
		}
	}
	state, err := builder.Build(t.Context())
	require.NoError(t, err)
	a := &admin{state: state, more: make(chan struct{})}
	a.web = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(func() {
		a.web.CloseClientConnections()
		a.web.Close()
	})
	return a
}

func (a *admin) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != feed.StreamPath || r.Header.Get("Authorization") != "Bearer "+adminToken {
		http.Error(w, "not here", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", feed.ContentType)
	line := func(f feed.Frame) []byte {
		text, err := feed.AppendFrame(nil, f)
		if err == nil {
			_, _ = w.Write(append(text, '\n'))
		}
		return text
	}
	a.mu.Lock()
	state, sent, more := a.state, len(a.log), a.more
	a.mu.Unlock()
	if r.URL.Query().Get("revision") != state.Revision().String() {
		tally := feed.NewTally(line(&feed.Snapshot{Platform: "test", Revision: state.Revision(), Hash: state.Hash(), Time: time.Now()}))
		for object := range state.Objects() {
			tally.Object(line(&feed.Object{Object: object}))
		}
		line(tally.End())
	}
	for {
		line(&feed.Heartbeat{Platform: state.Platform(), Revision: state.Revision(), Hash: state.Hash(), Time: time.Now()})
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-more:
		case <-time.After(200 * time.Millisecond):
		}
		a.mu.Lock()
		changes := a.log[sent:]
		state, sent, more = a.state, len(a.log), a.more
		a.mu.Unlock()
		for _, change := range changes {
			line(&feed.Change{Change: change})
		}
	}
}

// write makes a revision of one object; a nil body deletes it.
func (a *admin) write(t *testing.T, kind policies.Kind, owner policies.AccountID, id string, body any) policies.Revision {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	object, err := policies.NewObject(kind, owner, id, body)
	require.NoError(t, err)
	objects, err := policies.EncodeObjects([]policies.Object{object})
	require.NoError(t, err)
	revision := a.state.Revision() + 1
	change := policies.Change{
		Revision: revision, Time: time.Now(), Objects: objects,
		Hash: policies.ChainHash(a.state.Hash(), revision, sha256.Sum256(objects), policies.Hash{}),
	}
	a.state, err = a.state.Apply(t.Context(), change)
	require.NoError(t, err)
	a.log = append(a.log, change)
	close(a.more)
	a.more = make(chan struct{})
	return revision
}
