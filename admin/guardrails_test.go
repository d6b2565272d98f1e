package admin_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

const ticketRule = `package usher.guardrails

# METADATA
# title: Deletes need a ticket
# custom:
#   actions: [environment.control.DeleteEnv]
deny contains "deletes need a ticket" if not input.context.ticket
`

const ticketTest = `package usher.guardrails_test

import data.usher.guardrails

test_without if guardrails.deny == {"deletes need a ticket"} with input as {"action": {"name": "environment.control.DeleteEnv"}}
`

// TestGuardrails: a set comes in force if it compiles and its tests pass, and is what
// decides from its revision on.
func TestGuardrails(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("mia")
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	p.do("POST", "/v1/accounts/own/roles", m{"id": "r", "name": "R", "policies": []string{"environment.delete"}}).want(201)
	p.member("own", "mia", grant("environment", "e", "r"))
	const remove = "environment.control.DeleteEnv"
	none := p.do("GET", "/v1/guardrails", nil).want(200)
	require.Empty(t, none.get("files"))

	set := p.do("PUT", "/v1/guardrails", m{"files": m{"tickets.rego": ticketRule, "tickets_test.rego": ticketTest}},
		with("If-Match", none.text("etag"))).want(201)
	require.InDelta(t, 1, set.get("tests"), 0)
	require.Len(t, set.get("files"), 1)
	made := set.get("files").(map[string]any)["tickets.rego"].(string)
	require.Contains(t, made, `input.action.name in {"environment.control.DeleteEnv"}`)
	denied := p.check("mia", remove, "environment", "e", set.revision())
	require.Equal(t, false, denied.get("decision"))
	require.Equal(t, "guardrail", denied.text("context.reason"))
	require.Equal(t, []any{"deletes need a ticket"}, denied.get("context.guardrail"))
	shown := p.do("GET", "/v1/guardrails", nil).want(200)
	require.Equal(t, set.text("etag"), shown.text("etag"))
	require.Equal(t, set.get("files"), shown.get("files"))
	p.do("PUT", "/v1/guardrails", m{"files": m{"tickets.rego": made}}).want(200) // what is shown can be set again

	// What is broken is named, and what is in force stays.
	for _, test := range []struct {
		files  m
		status int
		field  string
	}{
		{m{}, 422, "files"},
		{m{"x_test.rego": ticketTest}, 422, "files"},
		{m{"x.rego": "package usher.guardrails\n\ndeny contains"}, 422, "x.rego:3"},
		{m{"x.rego": strings.Replace(ticketRule, "#   actions", "#   deeds", 1)}, 422, "x.rego:7"},
		{m{"x.rego": ticketRule, "x_test.rego": strings.Replace(ticketTest, "need a", "need no", 1)}, 422, "x_test.rego:5"},
		{m{"../x.rego": ticketRule}, 422, "../x.rego"},
		{m{"x.rego": strings.Repeat("#", policies.MaxGuardrailsBytes)}, 422, "x.rego"},
		{m{"x.rego": strings.Repeat("#", policies.MaxGuardrailsBytes+1)}, 413, ""},
	} {
		a := p.do("PUT", "/v1/guardrails", m{"files": test.files}).want(test.status)
		if test.field != "" {
			require.Equal(t, test.field, a.text("errors.0.field"), string(a.body))
		}
	}
	p.do("PUT", "/v1/guardrails", m{}).want(422)
	p.do("PUT", "/v1/guardrails", `{"files": {"x.rego": 7}}`).want(400)
	p.do("PUT", "/v1/guardrails", m{"files": m{"x.rego": ticketRule}}, with("If-Match", none.text("etag"))).want(412)
	p.do("DELETE", "/v1/guardrails", nil, with("If-Match", none.text("etag"))).want(412)
	require.Equal(t, shown.body, p.do("GET", "/v1/guardrails", nil).want(200).body)

	// Services only, with the scope.
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		body := any(nil)
		if method == http.MethodPut {
			body = m{"files": m{"x.rego": ticketRule}}
		}
		p.do(method, "/v1/guardrails", body, as("own")).want(403)
		p.do(method, "/v1/guardrails", body, with("Authorization", "Bearer "+p.newToken(policies.ScopeAudit, policies.ScopeResources))).want(403)
		p.do(method, "/v1/guardrails", body, without("Authorization")).want(401)
	}

	// Two at once: one of them is in force, whole.
	var wait sync.WaitGroup
	for _, reason := range []string{"first", "second"} {
		wait.Go(func() {
			a, err := p.try("PUT", "/v1/guardrails", m{"files": m{reason + ".rego": strings.Replace(ticketRule, "deletes need a ticket", reason, 1)}})
			if err != nil || a.status != 200 {
				t.Errorf("%v: %s", err, a.body)
			}
		})
	}
	wait.Wait()
	require.Len(t, p.do("GET", "/v1/guardrails", nil).want(200).get("files"), 1)

	gone := p.do("DELETE", "/v1/guardrails", nil).want(204)
	require.Equal(t, true, p.check("mia", remove, "environment", "e", gone.revision()).get("decision"))
	p.do("DELETE", "/v1/guardrails", nil).want(204)
	audit := p.do("GET", "/v1/audit?kind=policy_in_force&order=desc&action=guardrails.delete", nil).want(200)
	require.Equal(t, 1, audit.len("items"), "the second one changed nothing")
	require.Len(t, audit.get("items.0.before.guardrails"), 1)
	require.Nil(t, audit.get("items.0.after.guardrails"))
	require.NotEmpty(t, audit.text("items.0.actor.token"))
}

// TestWhoDecides: another catalogue or Rego than the program's is told of, and guardrails
// do not make it another one.
func TestWhoDecides(t *testing.T) {
	t.Parallel()
	own, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	var log bytes.Buffer
	said := func(digest policies.Hash) func(*admin.Options) {
		return func(o *admin.Options) {
			log.Reset()
			o.Embedded, o.Logger = digest, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		}
	}
	p := start(t, said(policies.Hash{1}))
	p.do("PUT", "/v1/guardrails", m{"files": m{"tickets.rego": ticketRule}}).want(201)
	p.stop()
	require.Contains(t, log.String(), "not this program's")
	require.Contains(t, log.String(), own.Digest.String())
	p.run(said(own.Digest))
	require.NotContains(t, log.String(), "not this program's")
}
