package server_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/rego"
)

// FuzzEvaluation: whatever the body is, there is no panic and no 5xx, the answer is
// JSON, and what is an evaluation to Rego is one here: data.usher.authz.decision
// says invalid_request of just those JSON objects that are a 400.
func FuzzEvaluation(f *testing.F) {
	for _, seed := range []string{
		whole, `{}`, `[]`, `null`, `{"evaluations":[{},null,` + whole + `]}`, whole + whole,
		`{` + subject + `,` + action + `,` + resource + `,"context":{"explain":true,"min_revision":7.0,"x":[[[]]]}}`,
		`{` + subject + `,` + action + `,` + resource + `,"context":{"min_revision":1e400}}`,
		`{` + subject + `,` + action + `,` + resource + `,"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{"context":{}}]}`,
		`{"subject":{"type":"account","id":"\ud83d\ude00"},"Subject":{},"action":{"name":""},"resource":{"id":null}}`,
		"{\"subject\":\"\xff\"}", `{"a":1,"a":2}`,
	} {
		f.Add([]byte(seed))
	}
	engine := newEngine(f, newState(f, company(f)), now)
	api, err := server.New(server.Options{Decider: engine, Searcher: engine})
	require.NoError(f, err)
	mux := http.NewServeMux()
	require.NoError(f, api.Mount(mux, server.Listener{Auth: server.AuthNone}))
	query := reference(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		single := serve(t, mux, server.PathEvaluation, body)
		batch := serve(t, mux, server.PathEvaluations, body)
		for _, got := range []*httptest.ResponseRecorder{single, batch} {
			require.Contains(t, []int{200, 400, 413, 503}, got.Code)
			require.True(t, jsontext.Value(got.Body.Bytes()).IsValid())
		}
		// What is no JSON object to begin with, Rego never sees.
		if !jsontext.Value(body).IsValid() || jsontext.Value(body).Kind() != '{' || len(body) > 10_000 {
			require.NotEqual(t, http.StatusOK, single.Code)
			return
		}
		input, err := ast.ValueFromReader(bytes.NewReader(body))
		if err != nil {
			return
		}
		results, err := query.Eval(t.Context(), opa.EvalParsedInput(input))
		require.NoError(t, err)
		reason, ok := results[0].Expressions[0].Value.(string)
		require.True(t, ok)
		switch single.Code {
		case http.StatusOK:
			require.NotEqual(t, string(policies.ReasonInvalidRequest), reason)
			var answer decision
			require.NoError(t, json.Unmarshal(single.Body.Bytes(), &answer))
			require.Equal(t, policies.Reason(reason), answer.Context.Reason)
		case http.StatusServiceUnavailable:
			require.Equal(t, string(policies.ReasonRevisionNotReached), reason)
		default:
			require.Equal(t, string(policies.ReasonInvalidRequest), reason)
		}
	})
}

// reference is the Rego on a platform with one account, olga, at the same
// revision, asked for the reason.
func reference(t require.TestingT) opa.PreparedEvalQuery {
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	actions := map[string]any{}
	for _, policy := range catalogue.Policies {
		for _, name := range policy.Actions {
			actions[string(name)] = true
		}
	}
	type object = map[string]any
	data := object{"usher": object{
		"revision": 7, "subjects": object{"olga": true, "mia": true},
		"catalogue": object{"actions": actions, "policies": object{}},
		"owners": object{
			"environment": object{"e": "olga", "f": "olga"}, "group": object{"g": "olga", "h": "olga"},
			"environments": object{"olga": "olga", "mia": "mia"}, "groups": object{"olga": "olga", "mia": "mia"},
			"account": object{"olga": "olga", "mia": "mia"},
		},
		"accounts": object{"olga": object{"actions": object{"acme.Say": true}}},
	}}
	options := []func(*opa.Rego){opa.Query("data.usher.authz.decision.context.reason"), opa.Store(inmem.NewFromObject(data))}
	for path, source := range rego.Modules() {
		options = append(options, opa.Module(path, source))
	}
	query, err := opa.New(options...).PrepareForEval(context.Background())
	require.NoError(t, err)
	return query
}

func serve(t *testing.T, handler http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}
