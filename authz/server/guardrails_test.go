package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// openGuarded serves newState with guardrails: one on acme.Say that reads everything, and
// one on another action that fails.
func openGuarded(t *testing.T, documents ...policies.Document) door {
	t.Helper()
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	inForce, err = inForce.WithGuardrails(map[string]string{"usher/guardrails/x.rego": `package usher.guardrails

deny contains $"not in {input.context.place}" if {
	input.action.name in {"acme.Say"}
	input.context.place != input.subject.properties.place
}

deny contains "not so loud" if {
	input.action.name in {"acme.Say"}
	input.action.properties.volume > 11
}

observe contains "quiet hours" if {
	input.action.name in {"acme.Say"}
}

deny contains "never" if {
	input.action.name in {"environment.control.GetEnvInfo"}
	time.parse_rfc3339_ns(input.context.at) > 0
}
`})
	require.NoError(t, err)
	return openState(t, newStateUnder(t, inForce, startRevision, documents...))
}

const says = `"action":{"name":"acme.Say"}`

// TestGuardrails: every part of the request is read, at every door, and an error of a
// guardrail is an error.
func TestGuardrails(t *testing.T) {
	t.Parallel()
	door := openGuarded(t, company(t))
	for body, want := range map[string][]string{
		`{` + mia + `,` + says + `,` + onE + `}`:                                                                                      nil,
		`{` + mia + `,` + says + `,` + onE + `,"context":{"place":"Bonn"}}`:                                                           nil,
		`{"subject":{"type":"account","id":"mia","properties":{"place":"Ulm"}},` + says + `,` + onE + `,"context":{"place":"Bonn"}}`:  {"not in Bonn"},
		`{"subject":{"type":"account","id":"mia","properties":{"place":"Bonn"}},` + says + `,` + onE + `,"context":{"place":"Bonn"}}`: nil,
		`{` + mia + `,"action":{"name":"acme.Say","properties":{"volume":12}},` + onE + `}`:                                           {"not so loud"},
		`{` + mia + `,"action":{"name":"acme.Say","properties":{"volume":1e1}},` + onE + `}`:                                          nil,
	} {
		got := door.post(t, server.PathEvaluation, body).decision(t)
		require.Equal(t, want, got.Context.Guardrail, body)
		require.Equal(t, want == nil, got.Decision)
		if want != nil {
			require.Equal(t, policies.ReasonGuardrail, got.Context.Reason)
			require.NotEmpty(t, got.Context.Roles)
			require.Nil(t, got.Context.Policies)
		}
		batch := door.post(t, server.PathEvaluations, `{"evaluations":[`+body+`]}`).decisions(t)
		require.Equal(t, got, batch[0], body)
		var data struct {
			Result decision `json:"result"`
		}
		require.NoError(t, json.Unmarshal(door.post(t, server.PathData+"usher/authz/decision", `{"input":`+body+`}`).body, &data))
		require.Equal(t, got, data.Result, body)
	}
	fails := `{` + mia + `,"action":{"name":"environment.control.GetEnvInfo"},` + onE + `,"context":{"at":"noon"}}`
	requireProblem(t, http.StatusInternalServerError, problem.Internal, door.post(t, server.PathEvaluation, fails))
	requireProblem(t, http.StatusInternalServerError, problem.Internal, door.post(t, server.PathEvaluations, `{"evaluations":[`+fails+`]}`))
	requireProblem(t, http.StatusInternalServerError, problem.Internal, door.post(t, server.PathResources,
		`{`+mia+`,"action":{"name":"environment.control.GetEnvInfo"},"resource":{"type":"environment"},"context":{"at":"noon"}}`))
	require.NotEqual(t, http.StatusOK, door.post(t, server.PathData+"usher/authz/allow", `{"input":`+fails+`}`).status)
	hostile := door.post(t, server.PathEvaluation, `{`+mia+`,`+says+`,`+onE+`,"context":{"place":1e999999999}}`).decision(t)
	require.Equal(t, policies.ReasonInvalidRequest, hostile.Context.Reason)
}

// TestGuardedForward: a proxy's check has what the mapping names, and whoever is denied
// is told why.
func TestGuardedForward(t *testing.T) {
	t.Parallel()
	mapping, err := routes.Parse([]byte(`
subject: mia
context: {place: "{header:X-Place}"}
routes: [{path: "/say/{id}", action: acme.Say, resource: {type: environment, id: "{id}"}}]
`))
	require.NoError(t, err)
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	inForce, err = inForce.WithGuardrails(map[string]string{"usher/guardrails/x.rego": `package usher.guardrails

deny contains $"no {input.context.method} of {input.context.path}" if {
	input.action.name in {"acme.Say"}
	not input.context.place == "Bonn"
}
`})
	require.NoError(t, err)
	engine := newEngine(t, newStateUnder(t, inForce, startRevision, company(t)), now)
	api, err := server.New(server.Options{Decider: engine, Searcher: engine, Routes: mapping})
	require.NoError(t, err)
	mux := http.NewServeMux()
	require.NoError(t, api.Mount(mux, server.Listener{Auth: server.AuthNone}))
	for place, status := range map[string]int{"Bonn": http.StatusOK, "Ulm": http.StatusForbidden, "": http.StatusForbidden} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.PathForward, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("X-Original-Method", "POST")
		r.Header.Set("X-Original-Uri", "/say/e?place=Bonn")
		r.Header.Set("X-Place", place)
		w := record(mux, r)
		require.Equal(t, status, w.Code, place)
		if status != http.StatusOK {
			require.Equal(t, "mia may not do acme.Say on the environment e: no POST of /say/e.", w.Body.String())
			require.Equal(t, "guardrail", w.Header().Get("Usher-Reason"))
		}
	}
}

// TestGuardedPages: a page of a search is of the context of the first, and of no other.
func TestGuardedPages(t *testing.T) {
	t.Parallel()
	document := company(t)
	for i := range 4 {
		document.Environments = append(document.Environments, policies.Environment{
			ID: policies.EnvironmentID(fmt.Sprint("e", i)), Name: fmt.Sprint("E", i), Groups: []policies.GroupID{"h"},
		})
	}
	door := openGuarded(t, document)
	const bonn = `"subject":{"type":"account","id":"mia","properties":{"place":"Bonn"}}`
	search := func(parts ...string) answer {
		return door.post(t, server.PathResources, `{`+strings.Join(parts, ",")+`}`)
	}
	const kind = `"resource":{"type":"environment"}`
	require.Empty(t, search(bonn, says, kind, `"context":{"place":"Ulm"}`).found(t).Results)
	require.Len(t, search(bonn, says, kind, `"context":{"place":"Bonn"}`).found(t).Results, 5)
	long := `"context":{"place":"Bonn","x":"` + strings.Repeat("x", policies.MaxPageTokenLength) + `"}`
	for _, context := range []string{`"context":{"place":"Bonn"}`, long} {
		first := search(bonn, says, kind, context, `"page":{"limit":2}`).found(t)
		token := `"page":{"token":"` + first.Page.NextToken + `"}`
		require.LessOrEqual(t, len(first.Page.NextToken), policies.MaxPageTokenLength)
		second := search(bonn, says, kind, strings.Replace(context, `:`, ` : `, 1), token)
		require.Len(t, second.found(t).Results, 2)
		alone := search(token)
		if context == long {
			requireProblem(t, http.StatusBadRequest, problem.Malformed, alone)
			requireProblem(t, http.StatusBadRequest, problem.Malformed, search(bonn, says, kind, token))
		} else {
			require.Equal(t, string(second.body), string(alone.body))
		}
		for _, other := range [][]string{
			{bonn, says, kind, `"context":{"place":"Ulm"}`, token}, {bonn, says, kind, `"context":{}`, token}, {mia, says, kind, context, token},
			{bonn, `"action":{"name":"acme.Say","properties":{}}`, kind, context, token},
		} {
			requireProblem(t, http.StatusBadRequest, problem.Malformed, search(other...))
		}
	}
	// Without a context there is none later, either.
	first := search(mia, says, kind, `"page":{"limit":2}`).found(t)
	token := `"page":{"token":"` + first.Page.NextToken + `"}`
	require.Len(t, search(token).found(t).Results, 2)
	requireProblem(t, http.StatusBadRequest, problem.Malformed, search(mia, says, kind, `"context":{"place":"Ulm"}`, token))
	// Where no guardrail speaks, the context plays no part.
	const start = `"action":{"name":"environment.control.GetNodeInfo"}`
	first = search(mia, start, kind, `"context":{"place":"Ulm"}`, `"page":{"limit":2}`).found(t)
	token = `"page":{"token":"` + first.Page.NextToken + `"}`
	require.Len(t, search(mia, start, kind, `"context":{"place":"Bonn"}`, token).found(t).Results, 2)
	require.True(t, jsontext.Value(search(token).body).IsValid())
}
