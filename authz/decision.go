package authz

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// Question is one check: may Subject do Action on the resource? Every field is
// as the caller sent it; what usher could never have is unknown, not a fault.
type Question struct {
	SubjectType  string // "account", or the subject is unknown
	Subject      string
	Action       string
	ResourceType string
	ResourceID   string
	// Explain asks for Levels and MissingRoles too. It evaluates anew each time.
	Explain bool
	// Request is what else came with the question, nil if nothing did. Guardrails read
	// it, and the decision log shows it. It need not be valid longer than the call.
	Request *Request
}

// Request is what came with a [Question] and is no part of it. The JSON is as the
// caller sent it, an object each; nil: there is none.
type Request struct {
	Context            jsontext.Value
	SubjectProperties  jsontext.Value
	ActionProperties   jsontext.Value
	ResourceProperties jsontext.Value

	ID         string // X-Request-ID
	DecisionID string // under which the decision is logged; empty: one is made
	RemoteAddr string // who asked
}

// Decision is the answer to a [Question], with what api.md (Check API) puts into
// its context. Fields that do not stand with the reason are zero. The slices are
// shared with the cache: do not change them.
type Decision struct {
	Allow      bool
	Reason     policies.Reason
	Level      policies.Level
	Roles      []string            // names of the winning level's roles, sorted
	Policies   []policies.PolicyID // those that grant the action, sorted
	Owner      policies.AccountID
	Revision   policies.Revision // of the data that the answer came from
	ValidUntil string            // RFC 3339; empty: until something changes
	// Levels is what every level has, and MissingRoles the owner's roles that
	// would allow the action, sorted; both only with Question.Explain.
	Levels       *Levels
	MissingRoles []string
	// Guardrail is why guardrails deny what is allowed but for them, sorted; only with
	// the reason guardrail. Observed is why those that only observe would have: it is no
	// part of the answer.
	Guardrail []string
	Observed  []string
}

// Levels is what was found on each access level: live grants only, names of
// roles, sorted.
type Levels struct {
	Direct          []string     `json:"direct"`
	SharedEnvGroups []GroupRoles `json:"shared_env_groups"`
	Base            []string     `json:"base"`
}

// GroupRoles is what one group of the resource has. InheritedFrom is the
// ancestor that the roles come from, "groups" for the category, or empty for the
// group itself.
type GroupRoles struct {
	Group         policies.GroupID `json:"group"`
	Roles         []string         `json:"roles"`
	InheritedFrom string           `json:"inherited_from,omitempty"`
}

// Effective is what Rego's `effective` found for (subject, resource): all that a
// check of any action rests on.
type Effective struct {
	// Reason is what ended the search (owner, unknown_subject, not_shared, …), or
	// empty when a level was found.
	Reason            policies.Reason    `json:"reason,omitempty"`
	Owner             policies.AccountID `json:"owner,omitempty"`
	Level             policies.Level     `json:"level,omitempty"`
	Roles             []string           `json:"roles,omitempty"`
	Policies          []EffectivePolicy  `json:"policies,omitempty"` // sorted by id
	ReceiveLoadAlerts bool               `json:"receive_load_alerts,omitzero"`
	ValidUntil        string             `json:"valid_until,omitempty"` // RFC 3339
}

// EffectivePolicy is a policy of the winning level's roles that lists the
// resource's type, with its actions, sorted.
type EffectivePolicy struct {
	ID      policies.PolicyID     `json:"id"`
	Actions []policies.ActionName `json:"actions"`
}

// Decider answers checks. [Engine] is the resident one; the on-demand engine is
// the other. Methods may be called from any number of goroutines.
type Decider interface {
	// Check answers one question from revision atLeast or a later one. It waits for
	// it as long as the engine was configured to, then gives a [RevisionError];
	// without a state it gives an [UnavailableError].
	Check(ctx context.Context, atLeast policies.Revision, q Question) (Decision, error)
	// Decide answers all questions at one revision, atLeast or a later one, in
	// order. Errors as for Check; with an error there are no answers at all.
	Decide(ctx context.Context, atLeast policies.Revision, questions []Question) ([]Decision, error)
}
