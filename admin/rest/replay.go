package rest

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/history"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// replayView is a logged decision, decided again.
type replayView struct {
	Logged loggedView `json:"logged"`
	Then   anyJSON    `json:"then" doc:"The answer at the logged revision and time, with explain; null where the log does not have that revision."`
	Now    anyJSON    `json:"now" doc:"The answer at present, with explain."`
	Same   bool       `json:"same" doc:"What was answered is what the platform's state says for that revision: outcome, and reason if one was logged. If not, whoever answered had other data or other Rego."`
}

// loggedEvent is what of an event a replay needs beside what is searched by.
type loggedEvent struct {
	Input struct {
		Subject struct {
			Type       string         `json:"type"`
			Properties jsontext.Value `json:"properties"`
		} `json:"subject"`
		Action   loggedProperties `json:"action"`
		Resource loggedProperties `json:"resource"`
		Context  jsontext.Value   `json:"context"`
	} `json:"input"`
	Result jsontext.Value `json:"result"`
}

type loggedProperties struct {
	Properties jsontext.Value `json:"properties"`
}

// objectIn is v, or nothing where a mask put something else in its place.
func objectIn(v jsontext.Value) jsontext.Value {
	if v.Kind() != '{' {
		return nil
	}
	return v
}

// loggedOwner is where an answer says who owns the resource.
type loggedOwner struct {
	Context struct {
		Owner policies.AccountID `json:"owner"`
	} `json:"context"`
}

func (a *API) replayOperation() {
	register(a, spec{
		id: "replay-decision", method: http.MethodGet, path: "/decisions/{decision}/replay", tag: tagDecisions,
		summary: "Decide a logged decision again, as it was and at present",
		description: "Why was this denied, and would it be today? The same question at the logged revision, rebuilt out of the log of changes, " +
			"and at the present one, guardrails included, which read the logged context. An event that does not say what was asked, " +
			"because it was masked or is another document's, is a 422.",
		scope: policies.ScopeAudit, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.replayDecision)
}

func (a *API) replayDecision(ctx context.Context, _ *request, p *decisionPath, _ *none) (*shown[replayView], error) {
	logged, err := a.store.Decision(ctx, p.Decision)
	if err != nil {
		return nil, err
	}
	var event loggedEvent
	if json.Unmarshal(logged.Event, &event) != nil || event.Input.Subject.Type == "" || logged.Subject == "" ||
		logged.Action == "" || logged.ResourceType == "" || logged.ResourceID == "" {
		return nil, invalid("decision", "does not say who asked for what on which resource: it cannot be decided again")
	}
	q := authz.Question{
		SubjectType: event.Input.Subject.Type, Subject: logged.Subject, Action: logged.Action,
		ResourceType: logged.ResourceType, ResourceID: logged.ResourceID, Explain: true,
		Request: &authz.Request{ // guardrails read it; what was masked is not there to read
			Context: objectIn(event.Input.Context), SubjectProperties: objectIn(event.Input.Subject.Properties),
			ActionProperties: objectIn(event.Input.Action.Properties), ResourceProperties: objectIn(event.Input.Resource.Properties),
		},
	}
	if err := a.fresh(ctx); err != nil {
		return nil, err
	}
	now, err := a.engine.Check(ctx, 0, q)
	if err != nil {
		return nil, err
	}
	view := replayView{Logged: viewLogged(logged), Now: server.AppendDecision(nil, &now)}
	var owner loggedOwner
	if json.Unmarshal(event.Result, &owner) != nil || owner.Context.Owner == "" {
		owner.Context.Owner = now.Owner // it does not say: today's
	}
	then, err := a.decisionThen(ctx, logged, q, owner.Context.Owner)
	if err != nil {
		return nil, err
	}
	if then != nil {
		view.Then = server.AppendDecision(nil, then)
		view.Same = then.Allow == (logged.Outcome == store.OutcomeAllow) && (logged.Reason == "" || logged.Reason == string(then.Reason))
	}
	return show("", view), nil
}

// decisionThen decides q at the revision and the time of what was logged; nil if the log
// does not have that revision.
func (a *API) decisionThen(ctx context.Context, logged store.Logged, q authz.Question, owner policies.AccountID) (*authz.Decision, error) {
	if logged.Revision == nil || *logged.Revision == 0 || *logged.Revision > a.engine.State().Revision() {
		return nil, nil
	}
	if _, ok, err := a.store.RevisionHash(ctx, *logged.Revision); err != nil || !ok {
		return nil, err
	}
	reader := history.Reader{Log: a.store, Policy: a.engine.State().Policy()}
	state, err := reader.At(ctx, owner, policies.AccountID(q.Subject), *logged.Revision)
	if err != nil {
		return nil, err
	}
	decision, err := state.Policy().Decision(ctx, state, logged.At, q)
	if err != nil {
		return nil, err
	}
	return &decision, nil
}
