package admin_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestRandomWorlds imports random worlds over REST and compares what the check API
// answers with the naive model of domain.md, and what export gives with what went in.
func TestRandomWorlds(t *testing.T) {
	t.Parallel()
	const worlds, questions = 25, 60
	p := start(t)
	var left []policies.AccountID
	for seed := range uint64(worlds) {
		guarded := seed >= worlds/2
		if seed == worlds/2 {
			p.do("PUT", "/v1/guardrails", m{"files": m{"test.rego": policiestest.Guardrails()[policies.GuardrailsPath+"test.rego"]}}).want(201)
		}
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, time.Now())
		require.NoError(t, err)
		for _, id := range left {
			p.do("DELETE", "/v1/accounts/"+string(id), nil)
		}
		left = nil
		body := ""
		for _, d := range world.Documents {
			line, err := policies.MarshalDocument(d)
			require.NoError(t, err)
			body += string(line) + "\n"
			left = append(left, d.Account.ID)
			for _, member := range d.Members {
				if member.Account.ID != nil {
					left = append(left, *member.Account.ID)
				}
			}
		}
		a := p.do("POST", "/v1/import", body, with("Content-Type", policies.MediaTypeNDJSON)).want(200)
		require.Zero(t, a.len("errors"), "world %d: %s", seed, a.body)
		for _, d := range world.Documents {
			exported, err := policies.DecodeDocument(p.do("GET", "/v1/accounts/"+string(d.Account.ID)+"/export", nil).want(200).body)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(d.Normalize(), exported, cmpopts.EquateEmpty()), "world %d, account %s", seed, d.Account.ID)
		}
		model := world.Model()
		model.Guarded = guarded
		p.compare(fmt.Sprintf("world %d", seed), world, model, dice, questions, a.revision())
	}
}

// compare asks questions of one batch and holds the answers against the model.
func (p *platform) compare(
	what string, world policiestest.World, model policiestest.Model, dice policiestest.Dice, questions int, revision policies.Revision,
) {
	p.t.Helper()
	asked := make([]policiestest.Question, questions)
	items := make([]any, questions)
	for i := range asked {
		q := world.Question(dice)
		asked[i] = q
		item, resource := m{}, m{"type": q.ResourceType, "id": q.ResourceID}
		if q.Context != "" {
			item["context"] = jsontext.Value(q.Context)
		}
		if q.Properties != "" {
			resource["properties"] = jsontext.Value(q.Properties)
		}
		item["subject"], item["action"], item["resource"] = m{"type": q.SubjectType, "id": q.Subject}, m{"name": q.Action}, resource
		items[i] = item
	}
	got := p.do("POST", "/access/v1/evaluations", m{"evaluations": items, "context": m{"min_revision": uint64(revision)}}).want(200)
	var answers struct {
		Evaluations []struct {
			Decision bool `json:"decision"`
			Context  struct {
				Reason    policies.Reason     `json:"reason"`
				Level     policies.Level      `json:"level"`
				Roles     []string            `json:"roles"`
				Policies  []policies.PolicyID `json:"policies"`
				Owner     policies.AccountID  `json:"owner"`
				Guardrail []string            `json:"guardrail"`
			} `json:"context"`
		} `json:"evaluations"`
	}
	require.NoError(p.t, json.Unmarshal(got.body, &answers))
	require.Len(p.t, answers.Evaluations, questions)
	for i, q := range asked {
		want := model.Check(q, time.Now())
		want.ValidUntil, want.Observed = "", nil
		c := answers.Evaluations[i].Context
		answer := policiestest.Answer{
			Decision: answers.Evaluations[i].Decision, Reason: c.Reason, Level: c.Level, Roles: c.Roles, Policies: c.Policies, Owner: c.Owner,
			Guardrail: c.Guardrail,
		}
		if diff := cmp.Diff(want, answer, cmpopts.EquateEmpty()); diff != "" {
			p.t.Errorf("%s, %+v: %s", what, q, diff)
		}
	}
}
