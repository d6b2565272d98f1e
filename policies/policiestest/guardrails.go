package policiestest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// What the guardrails of tests say.
const (
	NeedsTicket   = "needs a ticket, Straße"
	NotFromAfar   = "not by all environments"
	NotHere       = "nothing may be done on this"
	WouldDenyHere = "would need care"
)

// guardedActions are those that [Guardrails] speak for, sorted: some that worlds ask for
// often, some that the owner must keep, and some of [ownActions].
var guardedActions = []policies.ActionName{
	"acme.ci.Promote", "environment.control.DeleteEnv", "environment.control.GetEnvInfo", "environment.control.StartEnv",
	"environment.control.StopEnv", "environment.file.Read", "environment.group.CreateGroup", "users.collaboration.GetMembers",
	"users.collaboration.SuspendMember", "x",
}

// Guardrails are guardrails, as they are in force, for tests in which every door must
// give the same answer: rules that rest on the context, on what the subject has, on an
// id, and on the properties of the resource; one only observes. [Model.Guarded] has them
// in Go.
func Guardrails() map[string]string {
	speakFor := make([]string, len(guardedActions))
	for i, name := range guardedActions {
		speakFor[i] = fmt.Sprintf("%q", name)
	}
	condition := "input.action.name in {" + strings.Join(speakFor, ", ") + "}"
	var rules strings.Builder
	for _, r := range []struct{ name, reason, body string }{
		{"deny", NeedsTicket, "not input.context.ticket"},
		{"deny", NotFromAfar, `data.usher.authz.effective.level == "base"`},
		{"deny", NotHere, `contains(input.resource.id, "e")` + "\n\t" + `not input.resource.properties.even`},
		{"observe", WouldDenyHere, `input.resource.type == "environment"`},
	} {
		fmt.Fprintf(&rules, "\n# METADATA\n# custom:\n#   actions: [%s]\n%s contains %q if {\n\t%s\n\t%s\n}\n",
			strings.Join(speakFor, ", "), r.name, r.reason, condition, r.body)
	}
	return map[string]string{policies.GuardrailsPath + "test.rego": "package usher.guardrails\n" + rules.String()}
}

// guard is what the guardrails make of an answer.
func (m Model) guard(q Question, a Answer) Answer {
	var said struct {
		Ticket jsontext.Value `json:"ticket"`
	}
	var resource struct {
		Even jsontext.Value `json:"even"`
	}
	_, _ = json.Unmarshal([]byte(q.Context), &said), json.Unmarshal([]byte(q.Properties), &resource)
	isNot := func(v jsontext.Value) bool { return v == nil || string(v) == "false" }
	manages := func(p policies.SystemPolicy) bool {
		return (p.ID == "account.collaboration" || p.ID == "account.members") && slices.Contains(p.Actions, policies.ActionName(q.Action))
	}
	if !a.Decision || !slices.Contains(guardedActions, policies.ActionName(q.Action)) ||
		a.Reason == policies.ReasonOwner && slices.ContainsFunc(m.Catalogue.Policies, manages) {
		return a
	}
	if isNot(said.Ticket) {
		a.Guardrail = append(a.Guardrail, NeedsTicket)
	}
	if a.Level == policies.LevelBase {
		a.Guardrail = append(a.Guardrail, NotFromAfar)
	}
	if isNot(resource.Even) && strings.Contains(q.ResourceID, "e") {
		a.Guardrail = append(a.Guardrail, NotHere)
	}
	if q.ResourceType == string(policies.TypeEnvironment) {
		a.Observed = []string{WouldDenyHere}
	}
	if len(a.Guardrail) > 0 {
		slices.Sort(a.Guardrail)
		a.Decision, a.Reason, a.Policies = false, policies.ReasonGuardrail, nil
	}
	return a
}
