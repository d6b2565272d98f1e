package authz

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// guardedBySource is the embedded policy with one module of guardrails.
func policyGuardedBy(tb testing.TB, rules string) *Policy {
	tb.Helper()
	source, err := embeddedPolicy(tb).Source().WithGuardrails(map[string]string{"usher/guardrails/x.rego": "package usher.guardrails\n\n" + rules})
	require.NoError(tb, err)
	p, err := NewPolicy(context.Background(), source)
	require.NoError(tb, err)
	return p
}

// guardedCompany is companyEngine with those guardrails.
func guardedCompany(tb testing.TB, o Options, rules string) *Engine {
	tb.Helper()
	p := policyGuardedBy(tb, rules)
	e := newTestEngine(tb, o)
	require.NoError(tb, e.Reset(buildState(tb, p, testHeader(1), company(tb, p, nil))))
	return e
}

// actionList is granted wherever actionView is.
const actionList = "environment.control.GetEnvs"

const viewNeedsTicket = `deny contains "a ticket" if {
	input.action.name in {"environment.control.GetEnvInfo"}
	not input.context.ticket
}

observe contains $"{input.subject.id} looks" if {
	input.action.name in {"environment.control.GetEnvInfo"}
}
`

func withContext(q Question, context string) Question {
	q.Request = &Request{Context: jsontext.Value(context)}
	return q
}

// TestGuardrail: what it takes away, what stays of the answer, what is counted.
func TestGuardrail(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	e := guardedCompany(t, Options{Registerer: registry}, viewNeedsTicket)
	view := mayOn("mia", actionView, "app")
	for range 2 { // evaluated, and from the cache
		denied := check(t, e, view)
		require.Equal(t, policies.ReasonGuardrail, denied.Reason)
		require.False(t, denied.Allow)
		require.Equal(t, []string{"a ticket"}, denied.Guardrail)
		require.Equal(t, []string{"mia looks"}, denied.Observed)
		require.Equal(t, policies.LevelDirect, denied.Level)
		require.NotEmpty(t, denied.Roles)
		require.Empty(t, denied.Policies)
		allowed := check(t, e, withContext(view, `{"ticket":"x"}`))
		require.True(t, allowed.Allow)
		require.NotEmpty(t, allowed.Policies)
		require.Equal(t, []string{"mia looks"}, allowed.Observed)
		require.Nil(t, check(t, e, mayOn("mia", actionList, "app")).Observed)
		require.Equal(t, policies.ReasonNotShared, check(t, e, mayOn("mia", actionView, "db")).Reason, "denied anyway")
	}
	decisions, err := e.Decide(t.Context(), 0, []Question{view, mayOn("mia", actionList, "app"), withContext(view, `{"ticket":1}`)})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true}, []bool{decisions[0].Allow, decisions[1].Allow, decisions[2].Allow})
	require.Equal(t, map[string]float64{"denied": 3, "failed": 0, "observed": 6}, said(t, registry))
	right, err := e.Right(t.Context(), view)
	require.NoError(t, err)
	require.True(t, right, "who may manage what is not for guardrails")
}

// said is what usher_guardrails_total counted, by outcome.
func said(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	at := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "usher_guardrails_total" })
	require.GreaterOrEqual(t, at, 0)
	counted := map[string]float64{}
	for _, m := range families[at].GetMetric() {
		counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	return counted
}

// TestGuardrailsAreSwapped: what is in force decides, from the next answer on.
func TestGuardrailsAreSwapped(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	view := mayOn("mia", actionView, "app")
	put := func(p *Policy) {
		require.NoError(t, e.Apply(t.Context(), changeAfter(t, e.State(), object(t, policies.KindPolicyInForce, "", "policy_in_force", p.Source()))))
	}
	require.True(t, check(t, e, view).Allow)
	put(policyGuardedBy(t, viewNeedsTicket))
	require.False(t, check(t, e, view).Allow)
	put(policyGuardedBy(t, strings.ReplaceAll(viewNeedsTicket, "GetEnvInfo", "StopEnv")))
	require.True(t, check(t, e, view).Allow)
	put(policyGuardedBy(t, `deny contains "closed"`)) // without a condition it speaks for all
	require.Equal(t, []string{"closed"}, check(t, e, mayOn("mia", actionList, "app")).Guardrail)
	put(embeddedPolicy(t))
	require.True(t, check(t, e, view).Allow)
}

// TestGuardrailsThatFail: an error is an error, never an allow.
func TestGuardrailsThatFail(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"an error of a builtin":    `deny contains "late" if time.parse_rfc3339_ns(input.context.at) < time.now_ns()`,
		"a conflict":               "deny contains hour if hour := _hour\n\n_hour := \"1\"\n\n_hour := \"2\" if input.subject",
		"a reason that is no text": `deny contains {"hour": 7}`,
		"an observed number":       `observe contains 7`,
		"no set":                   `deny := {"x": {}}`,
		"one that never ends":      neverEnds,
	} {
		registry := prometheus.NewRegistry()
		p := policyGuardedBy(t, rules)
		p.limit = 200 * time.Millisecond
		e := newTestEngine(t, Options{Registerer: registry})
		require.NoError(t, e.Reset(buildState(t, p, testHeader(1), company(t, p, nil))))
		view := withContext(mayOn("mia", actionView, "app"), `{"at":"noon"}`)
		for range 2 {
			d, err := e.Check(t.Context(), 0, view)
			require.Error(t, err, name)
			require.Equal(t, Decision{}, d)
		}
		_, err := e.Decide(t.Context(), 0, []Question{view})
		require.Error(t, err, name)
		_, err = e.Search(t.Context(), 0, Search{Sought: SoughtResources, Question: view, Limit: 7})
		require.Error(t, err, name)
		require.Positive(t, said(t, registry)["failed"], name)
		right, err := e.Right(t.Context(), view)
		require.NoError(t, err)
		require.True(t, right)
	}
}

const neverEnds = `deny contains "x" if {
	some a in numbers.range(1, 1000)
	some b in numbers.range(1, 1000)
	some c in numbers.range(1, 1000)
	a + b + c == -1
}`

// A caller who goes away in the middle is no fault of the guardrails, nor of Rego.
func TestWhoGoesAwayIsNoFailure(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	e := guardedCompany(t, Options{Registerer: registry}, neverEnds)
	view := mayOn("mia", actionView, "app")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := e.Search(ctx, 0, Search{Sought: SoughtResources, Question: view, Limit: 7})
	require.Error(t, err)
	_, err = e.Check(ctx, 0, view)
	require.Error(t, err)
	explained := view
	explained.Explain = true
	again, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = e.Check(again, 0, explained)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, said(t, registry)["failed"])
	var failed dto.Metric
	require.NoError(t, e.metrics.failed.Write(&failed))
	require.Zero(t, failed.GetCounter().GetValue())
}

// TestHostileContext: whatever the caller says, guardrails read just that, or the check
// has no answer.
func TestHostileContext(t *testing.T) {
	t.Parallel()
	e := guardedCompany(t, Options{}, viewNeedsTicket)
	view := mayOn("mia", actionView, "app")
	deep := func(n int) string { return strings.Repeat(`{"a":[`, n) + `1` + strings.Repeat(`]}`, n) }
	for context, allowed := range map[string]bool{
		`{"ticket":` + deep(2000) + `}`:                          true,
		`{"ticket":"` + strings.Repeat("\u7968", 300_000) + `"}`: true,
		`{"TICKET":1}`:       false,
		`{"ticket\u0000":1}`: false,
		`{"tick\u0065t":0}`:  true,
		`{"context":{"ticket":1},"decision":true,"reason":"owner"}`: false,
		`{"ticket":1,"explain":true,"min_revision":1}`:              true,
		`{"ticket":1,"min_revision":9}`:                             false, // not reached
		`{"ticket":1,"explain":"yes"}`:                              false, // no request
		`[]`:                                                        false,
		`"ticket"`:                                                  false,
		`{"ticket":"` + strings.Repeat(`\"}`, 1000) + `", "explain":null}`: false,
	} {
		d, err := e.Check(t.Context(), 0, withContext(view, context))
		require.NoError(t, err, context[:min(80, len(context))])
		require.Equal(t, allowed, d.Allow, "%.80s: %v", context, d.Reason)
	}
	for _, none := range []string{`{`, `{}}`, `{"ticket":}`, deep(20_000), `{"ticket":1} {"ticket":1}`, `{"ticket":1e999999999}`} {
		require.Equal(t, policies.ReasonInvalidRequest, check(t, e, withContext(view, none)).Reason, "%.80s", none)
	}
	properties := view
	properties.Request = &Request{Context: jsontext.Value(`{"ticket":1}`), SubjectProperties: jsontext.Value(`[]`)}
	require.Equal(t, policies.ReasonInvalidRequest, check(t, e, properties).Reason)
}

// TestUnguardedHitDoesNotAllocate: guardrails cost nothing where they do not speak.
func TestUnguardedHitDoesNotAllocate(t *testing.T) {
	e := guardedCompany(t, Options{}, viewNeedsTicket)
	list, denied := withContext(mayOn("mia", actionList, "app"), `{"ticket":1}`), mayOn("mia", actionView, "db")
	check(t, e, list)
	check(t, e, denied)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _ = e.Check(context.Background(), 0, list)
		_, _ = e.Check(context.Background(), 0, denied)
	}))
}

// TestGuardedActions: what is on the fast path is what no rule can speak for.
func TestGuardedActions(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]struct{ some, other bool }{
		`deny contains "x" if input.action.name in {"a.b"}`:                          {true, false},
		`observe contains "x" if input.action.name in {"a.b"}`:                       {true, false},
		`helper contains "x"`:                                                        {false, false},
		`deny contains "x" if not input.action.name in {"a.b"}`:                      {true, true},
		`deny contains "x" if input.action.name in {"a.b"} with input as {}`:         {true, true},
		`deny contains "x" if input.action.name in {"a.b", input.x}`:                 {true, true},
		`deny contains "x" if input.action.name in ["a.b"]`:                          {true, true},
		`deny contains "x" if input.action.name == "a.b"`:                            {true, true},
		`deny contains "x" if "a.b" in {input.action.name}`:                          {true, true},
		`deny["x"] := true if input.action.name in {"a.b"}`:                          {true, false},
		`deny := "x" if { input.action.name in {"a.b"} } else := "y"`:                {true, true},
		"deny contains \"x\" if input.action.name in {\"z\"}\n\ndeny contains \"x\"": {true, true},
	} {
		module, err := ast.ParseModuleWithOpts("x.rego", "package usher.guardrails\n\n"+source, ast.ParserOptions{RegoVersion: ast.RegoV1})
		require.NoError(t, err, source)
		g := guardedBy(map[string]*ast.Module{"x.rego": module})
		require.Equal(t, want.some, g.has("a.b"), source)
		require.Equal(t, want.other, g.has("c.d"), source)
	}
	for source, want := range map[string]bool{
		"package usher\n\nguardrails.deny contains \"x\"": true, "package usher.guardrails.deny\n\nx := 1": true,
		"package usher\n\nguardrails := {\"deny\": {\"x\"}}": true, "package usher.other\n\ndeny contains \"x\"": false,
	} {
		module, err := ast.ParseModuleWithOpts("x.rego", source, ast.ParserOptions{RegoVersion: ast.RegoV1})
		require.NoError(t, err, source)
		require.Equal(t, want, guardedBy(map[string]*ast.Module{"x.rego": module}).has("a.b"), source)
	}
}

// TestGuardrailsAtOnce: many guarded checks, and guardrails that come and go meanwhile.
func TestGuardrailsAtOnce(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	view := mayOn("mia", actionView, "app")
	guarded, plain := policyGuardedBy(t, viewNeedsTicket), embeddedPolicy(t)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 50 {
				d, err := e.Check(context.Background(), 0, view)
				if err != nil || d.Allow != (d.Revision%2 == 1) {
					t.Errorf("%+v, %v", d, err)
				}
			}
		})
	}
	for round := range 20 {
		p := []*Policy{guarded, plain}[round%2]
		require.NoError(t, e.Apply(t.Context(), changeAfter(t, e.State(), object(t, policies.KindPolicyInForce, "", "policy_in_force", p.Source()))))
	}
	asking.Wait()
}

// TestModelGuardrails: those that the model has in Go are what package guardrails makes
// (its own tests), and speak for what they say.
func TestModelGuardrails(t *testing.T) {
	t.Parallel()
	p := guardedPolicy(t, embeddedPolicy(t))
	require.True(t, p.Guards(actionView))
	require.False(t, p.Guards("environment.control.CloneEnv"))
	require.Len(t, policiestest.Guardrails(), 1)
}
