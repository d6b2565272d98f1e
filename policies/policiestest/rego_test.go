package policiestest_test

import (
	"bytes"
	"context"
	stdjson "encoding/json" // OPA's numbers are its json.Number
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/bundle"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

// regoAnswer is the decision as api.md has it.
type regoAnswer struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason     policies.Reason     `json:"reason"`
		Revision   policies.Revision   `json:"revision"`
		Level      policies.Level      `json:"level"`
		Roles      []string            `json:"roles"`
		Policies   []policies.PolicyID `json:"policies"`
		Owner      policies.AccountID  `json:"owner"`
		ValidUntil string              `json:"valid_until"`
		Levels     *struct {
			Direct          []string `json:"direct"`
			SharedEnvGroups []struct {
				Group         policies.GroupID `json:"group"`
				Roles         []string         `json:"roles"`
				InheritedFrom string           `json:"inherited_from"`
			} `json:"shared_env_groups"`
			Base []string `json:"base"`
		} `json:"levels"`
		MissingRoles []string `json:"missing_roles"`
	} `json:"context"`
}

// loaded is a bundle in an OPA of this process.
type loaded struct{ query opa.PreparedEvalQuery }

func load(t require.TestingT, p policies.PlatformData) loaded {
	var archive bytes.Buffer
	require.NoError(t, policies.WriteBundle(&archive, p))
	b, err := bundle.NewReader(&archive).Read()
	require.NoError(t, err)
	query, err := opa.New(opa.Query("data.usher.authz.decision"), opa.ParsedBundle("usher", &b)).PrepareForEval(context.Background())
	require.NoError(t, err)
	return loaded{query}
}

func (l loaded) check(t require.TestingT, q policiestest.Question, at time.Time) regoAnswer {
	input := map[string]any{
		"subject":  map[string]any{"type": q.SubjectType, "id": q.Subject},
		"action":   map[string]any{"name": q.Action},
		"resource": map[string]any{"type": q.ResourceType, "id": q.ResourceID},
		"context":  map[string]any{"explain": true},
	}
	results, err := l.query.Eval(context.Background(), opa.EvalInput(input), opa.EvalTime(at))
	require.NoError(t, err)
	require.Len(t, results, 1)
	data, err := stdjson.Marshal(results[0].Expressions[0].Value)
	require.NoError(t, err)
	var answer regoAnswer
	require.NoError(t, json.Unmarshal(data, &answer, json.RejectUnknownMembers(true)), "%s", data)
	return answer
}

// requireModel holds the Rego's answer against the model's.
func requireModel(t require.TestingT, m policiestest.Model, q policiestest.Question, at time.Time, got regoAnswer) {
	c := got.Context
	require.Empty(t, cmp.Diff(m.Check(q, at), policiestest.Answer{
		Decision: got.Decision, Reason: c.Reason, Level: c.Level, Roles: c.Roles, Policies: c.Policies,
		Owner: c.Owner, ValidUntil: c.ValidUntil,
	}, cmpopts.EquateEmpty()), "%+v at %s", q, at)
	explanation := m.Explain(q, at)
	require.Equal(t, explanation != nil, c.Levels != nil, "%+v: levels", q)
	if explanation == nil {
		return
	}
	levels := policiestest.Explanation{Direct: c.Levels.Direct, Base: c.Levels.Base, MissingRoles: c.MissingRoles}
	for _, g := range c.Levels.SharedEnvGroups {
		levels.SharedEnvGroups = append(levels.SharedEnvGroups, policiestest.GroupRoles{Group: g.Group, Roles: g.Roles, InheritedFrom: g.InheritedFrom})
	}
	require.Empty(t, cmp.Diff(*explanation, levels, cmpopts.EquateEmpty()), "%+v at %s", q, at)
}

func policyInForce(t require.TestingT) policies.PolicyInForce {
	policy, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	return policy
}

// TestModelAgreesWithRego: random worlds, compiled to bundles, loaded by OPA, and
// asked random questions at the moments at which answers change.
func TestModelAgreesWithRego(t *testing.T) {
	t.Parallel()
	policy := policyInForce(t)
	rapid.Check(t, func(rt *rapid.T) {
		dice := rapiddice.New(rt)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(rt, err)
		platform, err := policiestest.NewDocumentsPlatform(3, policy, world.Documents...)
		require.NoError(rt, err)
		loaded := load(rt, platform)
		instants := world.Instants()
		for range 30 {
			q, at := world.Question(dice), instants[dice.Roll(len(instants))]
			got := loaded.check(rt, q, at)
			require.Equal(rt, policies.Revision(3), got.Context.Revision)
			requireModel(rt, world.Model(), q, at, got)
		}
	})
}

// TestVectorsThroughABundle: OPA's own reader loads the bundle, and the bundled
// Rego answers every vector.
func TestVectorsThroughABundle(t *testing.T) {
	t.Parallel()
	policy := policyInForce(t)
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	for _, v := range vectors {
		platform, err := policiestest.NewDocumentsPlatform(1, policy, v.Document)
		require.NoError(t, err)
		loaded := load(t, platform)
		for _, c := range v.Checks {
			got := loaded.check(t, c.Question(), now)
			require.Equal(t, c.Decision, got.Decision, "%s: %+v", v.Name, c)
			require.Equal(t, c.Reason, got.Context.Reason, "%s: %+v", v.Name, c)
			require.Equal(t, c.Level, got.Context.Level, "%s: %+v", v.Name, c)
			require.True(t, slices.Equal(c.Roles, got.Context.Roles), "%s: %+v", v.Name, c)
			require.True(t, slices.Equal(c.Policies, got.Context.Policies), "%s: %+v", v.Name, c)
		}
	}
}

// TestBundleRoundTrip: a bundle of a random world reads back as the same
// platform, and makes the same bundle again.
func TestBundleRoundTrip(t *testing.T) {
	t.Parallel()
	policy := policyInForce(t)
	rapid.Check(t, func(rt *rapid.T) {
		world, err := policiestest.NewWorld(rapiddice.New(rt), now)
		require.NoError(rt, err)
		platform, err := policiestest.NewDocumentsPlatform(policies.NewRevision(1, 5), policy, world.Documents...)
		require.NoError(rt, err)
		var first, again bytes.Buffer
		require.NoError(rt, policies.WriteBundle(&first, platform))
		contents, err := policies.ReadBundle(bytes.NewReader(first.Bytes()))
		require.NoError(rt, err)
		require.Equal(rt, policy, *contents.Policy())
		require.NoError(rt, policies.WriteBundle(&again, contents))
		require.True(rt, bytes.Equal(first.Bytes(), again.Bytes()))

		// The objects make the same data.
		byOwner := map[policies.AccountID][]policies.Object{}
		for o, err := range contents.Objects() {
			require.NoError(rt, err)
			byOwner[o.Owner] = append(byOwner[o.Owner], o)
		}
		for owner, data := range platform.Accounts() {
			got, err := policies.NewAccountData(owner, func(yield func(policies.Object, error) bool) {
				for _, o := range byOwner[owner] {
					if !yield(o, nil) {
						return
					}
				}
			})
			require.NoError(rt, err)
			require.Empty(rt, cmp.Diff(data, got))
		}
	})
}
