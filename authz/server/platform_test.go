package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// now is when the tests take place.
var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const platform, startRevision = "test", policies.Revision(7)

// The secrets of the tokens of every test platform.
var (
	checksToken   = secret('c')
	bundlesToken  = secret('b')
	endedToken    = secret('e')
	strangerToken = secret('s')
)

func secret(fill byte) string {
	s, err := policies.NewTokenSecret(bytes.NewReader(bytes.Repeat([]byte{fill}, sha256.Size)))
	if err != nil {
		return err.Error() // not a token: every test would fail
	}
	return s
}

// newState puts documents on a platform with the tokens above.
func newState(t require.TestingT, documents ...policies.Document) *authz.State {
	return newStateAt(t, startRevision, documents...)
}

func newStateAt(t require.TestingT, revision policies.Revision, documents ...policies.Document) *authz.State {
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	return newStateUnder(t, inForce, revision, documents...)
}

// newStateUnder is newStateAt under another policy.
func newStateUnder(t require.TestingT, inForce policies.PolicyInForce, revision policies.Revision, documents ...policies.Document) *authz.State {
	builder := authz.NewBuilder(authz.Header{Platform: platform, Revision: revision})
	add := func(kind policies.Kind, id string, body any) {
		object, err := policies.NewObject(kind, "", id, body)
		require.NoError(t, err)
		require.NoError(t, builder.Add(object))
	}
	add(policies.KindPolicyInForce, string(policies.KindPolicyInForce), inForce)
	ended := now.Add(-time.Second)
	for id, token := range map[string]policies.TokenBody{
		"t-checks":  {Hash: policies.HashToken(checksToken), Scopes: []policies.Scope{policies.ScopeChecks, policies.ScopeActAs}},
		"t-bundles": {Hash: policies.HashToken(bundlesToken), Scopes: []policies.Scope{policies.ScopeBundles}},
		"t-ended":   {Hash: policies.HashToken(endedToken), Scopes: []policies.Scope{policies.ScopeChecks}, ExpiresAt: &ended},
	} {
		add(policies.KindToken, id, token)
	}
	known := map[policies.AccountID]bool{}
	for _, document := range documents {
		for _, member := range document.Members {
			if id := member.Account.ID; id != nil && !known[*id] {
				known[*id] = true
				add(policies.KindAccount, string(*id), policies.AccountBody{})
			}
		}
		if !known[document.Account.ID] {
			known[document.Account.ID] = true
			add(policies.KindAccount, string(document.Account.ID), policies.AccountBody{})
		}
	}
	for _, document := range documents {
		objects, err := document.Objects()
		require.NoError(t, err)
		for _, object := range objects {
			if object.Kind != policies.KindAccount {
				require.NoError(t, builder.Add(object))
			}
		}
	}
	state, err := builder.Build(context.Background())
	require.NoError(t, err)
	return state
}

// newEngine answers on state, nil for none yet.
func newEngine(t require.TestingT, state *authz.State, at time.Time) *authz.Engine {
	engine, err := authz.New(authz.Options{Clock: func() time.Time { return at }, MinRevisionWait: -1})
	require.NoError(t, err)
	if state != nil {
		require.NoError(t, engine.Reset(state))
	}
	return engine
}

// company is a document with something of everything.
func company(t require.TestingT) policies.Document {
	document, err := policies.DecodeDocument([]byte(`{
		"account": {"id": "olga", "email": "olga@example.com"},
		"groups": [{"id": "g", "name": "G"}, {"id": "h", "name": "H", "parent": "g"}],
		"environments": [{"id": "e", "name": "E", "groups": ["h"]}, {"id": "f", "name": "F"}],
		"policies": [{"id": "acme.say", "name": "Say \"hi\"", "resources": ["environment"], "actions": ["acme.Say"]}],
		"roles": [{"id": "r", "name": "Rôle \"R\" <b>", "policies": ["environment.view", "acme.say"]},
		          {"id": "s", "name": "Starter", "policies": ["environment.start"]}],
		"members": [{"account": {"id": "mia", "email": "mia@example.com"},
			"grants": [{"resource": {"type": "group", "id": "g"}, "roles": ["r"], "expires_at": "2997-01-01T00:00:00Z"}]}]}`))
	require.NoError(t, err)
	return document
}

// door is a check API that is served.
type door struct {
	url   string
	token string // sent with every request; empty: none
	http  *http.Client
}

// answers is what an API needs.
type answers interface {
	authz.Decider
	authz.Searcher
}

func newAPI(tb testing.TB, engine answers, tokens server.Tokens) *server.API {
	tb.Helper()
	api, err := server.New(server.Options{
		Decider: engine, Searcher: engine, Tokens: tokens, Clock: func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)), Registerer: prometheus.NewPedanticRegistry(),
	})
	require.NoError(tb, err)
	return api
}

// open serves api on a listener of its own until the test ends.
func open(tb testing.TB, api *server.API, l server.Listener) door {
	tb.Helper()
	mux := http.NewServeMux()
	require.NoError(tb, api.Mount(mux, l))
	web := httptest.NewServer(mux)
	tb.Cleanup(web.Close)
	return door{url: web.URL, token: checksToken, http: web.Client()}
}

// openState serves the check API on state.
func openState(tb testing.TB, state *authz.State) door {
	tb.Helper()
	engine := newEngine(tb, state, now)
	return open(tb, newAPI(tb, engine, server.StateTokens(engine.State)), server.Listener{})
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// post sends body; headers are pairs of name and value, and one that is empty
// removes what would be sent.
func (d door) post(t require.TestingT, path, body string, headers ...string) answer {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.url+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if d.token != "" {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Del(pair[0])
		if value := pair[len(pair)-1]; value != "" {
			r.Header.Set(pair[0], value)
		}
	}
	return d.send(t, r)
}

func (d door) get(t require.TestingT, path string) answer {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, d.url+path, http.NoBody)
	require.NoError(t, err)
	return d.send(t, r)
}

func (d door) send(t require.TestingT, r *http.Request) answer {
	response, err := d.http.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.True(t, jsontext.Value(body).IsValid(), "not JSON: %s", body)
	return answer{response.StatusCode, response.Header, body}
}

// decision is the answer to one evaluation, as a client reads it.
type decision struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason       policies.Reason     `json:"reason"`
		Level        policies.Level      `json:"level"`
		Roles        []string            `json:"roles"`
		Policies     []policies.PolicyID `json:"policies"`
		Owner        policies.AccountID  `json:"owner"`
		Revision     policies.Revision   `json:"revision"`
		ValidUntil   string              `json:"valid_until"`
		Levels       *authz.Levels       `json:"levels"`
		MissingRoles *[]string           `json:"missing_roles"`
		Guardrail    []string            `json:"guardrail"`
	} `json:"context"`
}

func (a answer) decision(t require.TestingT) (d decision) {
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal(a.body, &d, json.RejectUnknownMembers(true)))
	return d
}

func (a answer) decisions(t require.TestingT) []decision {
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	var batch struct {
		Evaluations []decision `json:"evaluations"`
	}
	require.NoError(t, json.Unmarshal(a.body, &batch, json.RejectUnknownMembers(true)))
	return batch.Evaluations
}

// evaluation is a request's body; context is JSON, empty for none.
func evaluation(t require.TestingT, q policiestest.Question, context string) string {
	type object = map[string]any
	body := object{
		"subject":  object{"type": q.SubjectType, "id": q.Subject},
		"action":   object{"name": q.Action},
		"resource": object{"type": q.ResourceType, "id": q.ResourceID},
	}
	if context != "" {
		body["context"] = jsontext.Value(context)
	}
	text, err := json.Marshal(body)
	require.NoError(t, err)
	return string(text)
}

func ask(subject, action, kind, id string) policiestest.Question {
	return policiestest.Question{SubjectType: "account", Subject: subject, Action: action, ResourceType: kind, ResourceID: id}
}

// record is what handler answers, without a connection.
func record(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}
