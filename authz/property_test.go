package authz

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

// TestCacheNeverDiffers holds the table of what survives in the cache (doc.go),
// and all the rest: over random changes, applied one by one, each answer equals
// that of an engine made from scratch, of Rego's decision on OPA's own store with
// the bundle's data, and of the naive model.
func TestCacheNeverDiffers(t *testing.T) {
	t.Parallel()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	inForce := []*Policy{newTestPolicy(t, catalogue), newTestPolicy(t, withoutSome(catalogue))}
	inForce = append(inForce, guardedPolicy(t, inForce[0]), guardedPolicy(t, inForce[1]))
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, rapiddice.New(rt), inForce...)
		e := newTestEngine(t, Options{Clock: m.clock.now})
		require.NoError(t, e.Reset(buildState(t, m.policy, testHeader(1), m.objects())))
		compareAll(t, rt, m, e)
		for range 1 + m.dice.Roll(10) {
			revision := e.State().Revision() + 1
			if m.dice.Roll(20) == 0 {
				revision = policies.NewRevision(e.State().Revision().Epoch()+1, e.State().Revision().Count())
			}
			c := changeAt(t, e.State(), revision, m.change()...)
			require.NoError(t, e.Apply(context.Background(), c), "%s", c.Objects)
			m.clock.advance(one(m.dice, []time.Duration{0, 0, time.Microsecond, time.Hour, 24 * time.Hour, -time.Minute}))
			if m.dice.Roll(4) > 0 { // else what is cached grows older
				compareAll(t, rt, m, e)
			}
		}
		compareAll(t, rt, m, e)
	})
}

// withoutSome is a catalogue in which a policy lost an action and another a kind
// of resource.
func withoutSome(c policies.Catalogue) policies.Catalogue {
	c.Policies = slices.Clone(c.Policies)
	for i, p := range c.Policies {
		if len(p.Actions) > 1 && i%2 == 0 {
			c.Policies[i].Actions = p.Actions[1:]
		} else if len(p.Resources) > 1 {
			c.Policies[i].Resources = p.Resources[1:]
		}
	}
	return c
}

func compareAll(t *testing.T, rt *rapid.T, m *machine, e *Engine) {
	t.Helper()
	ctx := context.Background()
	s := e.State()
	scratch := buildState(t, m.policy, s.Header(), m.objects())
	require.Empty(t, cmp.Diff(collect(t, scratch), collect(t, s)), "the state differs from one made from scratch")
	fresh := newTestEngine(t, Options{Clock: m.clock.now})
	require.NoError(t, fresh.Reset(scratch))
	var plain func(Question, time.Time) Decision
	if m.dice.Roll(3) == 0 { // it takes long to load
		plain = plainRego(t, s)
	}
	model := m.model()
	now := e.Now()
	for i, q := range m.questions() {
		if m.dice.Roll(5) < 2 {
			continue // what is not asked each time is cached for longer
		}
		want := expected(model.Check(q, now), s.Revision())
		got, err := e.Check(ctx, 0, asQuestion(q))
		require.NoError(t, err)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("the model differs on %+v at %v: %s", q, now, diff)
		}
		if i%4 == m.dice.Roll(4) { // the model has looked at all already
			same, err := fresh.Check(ctx, 0, asQuestion(q))
			require.NoError(t, err)
			if diff := cmp.Diff(same, got); diff != "" {
				rt.Fatalf("the engine from scratch differs on %+v at %v: %s", q, now, diff)
			}
		}
		if plain == nil || i%7 != m.dice.Roll(7) {
			continue
		}
		if diff := cmp.Diff(plain(asQuestion(q), now), got); diff != "" {
			rt.Fatalf("Rego's decision differs on %+v at %v: %s", q, now, diff)
		}
		explained(t, rt, e, model, q, plain)
	}
}

// explained compares the answer with explain to the plain one, to Rego on OPA's
// own store, and to the model.
func explained(t *testing.T, rt *rapid.T, e *Engine, model policiestest.Model, q policiestest.Question, plain func(Question, time.Time) Decision) {
	t.Helper()
	asked := asQuestion(q)
	asked.Explain = true
	got, err := e.Check(context.Background(), 0, asked)
	require.NoError(t, err)
	if diff := cmp.Diff(plain(asked, e.Now()), got); diff != "" {
		rt.Fatalf("Rego explains %+v otherwise: %s", q, diff)
	}
	want := expected(model.Check(q, e.Now()), e.State().Revision())
	if x := model.Explain(q, e.Now()); x != nil {
		want.MissingRoles = x.MissingRoles
		want.Levels = &Levels{Direct: x.Direct, Base: x.Base, SharedEnvGroups: []GroupRoles{}}
		for _, g := range x.SharedEnvGroups {
			want.Levels.SharedEnvGroups = append(want.Levels.SharedEnvGroups, GroupRoles(g))
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		rt.Fatalf("the model explains %+v otherwise: %s", q, diff)
	}
}

// collect are the objects of a state, as texts.
func collect(tb testing.TB, s *State) []string {
	tb.Helper()
	var all []string
	for o, err := range s.Objects() {
		require.NoError(tb, err)
		if o.Kind != policies.KindPolicyInForce {
			all = append(all, string(o.Kind)+" "+string(o.Owner)+" "+o.ID+" "+string(o.Body))
		}
	}
	return all
}
