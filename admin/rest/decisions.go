package rest

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagDecisions = "Decisions"

// outcome of a logged decision.
type outcome string

type loggedView struct {
	ID         string             `json:"id" doc:"The event's decision_id."`
	Time       time.Time          `json:"time"`
	ReceivedAt time.Time          `json:"received_at"`
	Instance   string             `json:"instance,omitempty" doc:"Who decided: the label id of the sidecar or OPA."`
	Path       string             `json:"path,omitempty" doc:"The document that was asked for."`
	Subject    string             `json:"subject,omitempty"`
	Action     string             `json:"action,omitempty"`
	Resource   *loggedResource    `json:"resource,omitempty"`
	Outcome    outcome            `json:"outcome" doc:"none: the event does not say."`
	Reason     string             `json:"reason,omitempty"`
	Revision   *policies.Revision `json:"revision,omitempty" doc:"Of the data that the decision came from."`
	Event      anyJSON            `json:"event" doc:"The event as it was sent, in OPA's format."`
}

type loggedResource struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func viewLogged(d store.Logged) loggedView {
	v := loggedView{
		ID: d.ID, Time: d.At, ReceivedAt: d.ReceivedAt, Instance: d.Instance, Path: d.Path, Subject: d.Subject, Action: d.Action,
		Outcome: outcome(d.Outcome), Reason: d.Reason, Revision: d.Revision, Event: anyJSON(d.Event),
	}
	if d.ResourceType != "" || d.ResourceID != "" {
		v.Resource = &loggedResource{d.ResourceType, d.ResourceID}
	}
	return v
}

type opaView struct {
	Instance   string    `json:"instance" doc:"The label id of the OPA."`
	ReceivedAt time.Time `json:"received_at"`
	Revision   string    `json:"revision,omitempty" doc:"Of usher's bundle, as it is active there."`
	Errors     int       `json:"errors" doc:"Bundles that it could not load; more than 0 is bad."`
	Status     anyJSON   `json:"status" doc:"What it sent, in OPA's format."`
}

func viewOPA(s store.OPAStatus) opaView {
	return opaView{s.Instance, s.ReceivedAt, s.Revision, s.Errors, anyJSON(s.Body)}
}

// DecisionFilters choose logged decisions.
type DecisionFilters struct {
	PageQuery
	DecisionChoice
}

// DecisionChoice is what decisions are chosen by.
type DecisionChoice struct {
	Subject string   `query:"subject" doc:"The account that asked." example:"mia"`
	Action  string   `query:"action" doc:"What it wanted to do." example:"environment.control.StartEnv"`
	Type    string   `query:"type" doc:"The resource's type; with id." example:"environment"`
	ID      string   `query:"id" doc:"The resource's id; with type." example:"my-app"`
	Outcome outcome  `query:"outcome" doc:"allow, deny, or none."`
	Reason  string   `query:"reason" doc:"Why." example:"not_shared"`
	Since   timeText `query:"since" doc:"Only decisions at this time or later."`
	Until   timeText `query:"until" doc:"Only decisions before this time."`
}

func (q DecisionChoice) filter() (f store.DecisionFilter, err error) {
	f = store.DecisionFilter{
		Subject: q.Subject, Action: q.Action, Resource: policies.Resource{Type: policies.ResourceType(q.Type), ID: q.ID},
		Outcome: store.Outcome(q.Outcome), Reason: q.Reason,
	}
	if (q.Type == "") != (q.ID == "") {
		return f, invalid("type", "and id come together")
	}
	if q.Outcome != "" && !slices.Contains(store.Outcomes, f.Outcome) {
		return f, invalid("outcome", "must be allow, deny or none")
	}
	if f.Since, err = q.Since.value("since"); err != nil {
		return f, err
	}
	f.Until, err = q.Until.value("until")
	return f, err
}

// decisionPath names a logged decision.
type decisionPath struct {
	Decision string `path:"decision" doc:"The decision's id."`
}

func (a *API) decisionOperations() {
	register(a, spec{
		id: "list-decisions", method: http.MethodGet, path: "/decisions", tag: tagDecisions, summary: "List logged decisions, the newest first",
		description: "What sidecars and OPAs uploaded to `/v1/logs`.",
		scope:       policies.ScopeAudit, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.listDecisions)
	register(a, spec{
		id: "get-decision", method: http.MethodGet, path: "/decisions/{decision}", tag: tagDecisions, summary: "Show a logged decision",
		scope: policies.ScopeAudit, who: whoServices,
	}, a.getDecision)
	a.replayOperation()
	a.decisionEventOperation()
	register(a, spec{
		id: "list-opa-statuses", method: http.MethodGet, path: "/status", tag: tagDecisions, summary: "List the OPAs with their last status",
		description: "What OPAs uploaded to `/v1/status` in the last day.",
		scope:       policies.ScopeAudit, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.listOPAStatuses)
}

func (a *API) listDecisions(ctx context.Context, _ *request, p *DecisionFilters, _ *none) (*listed[loggedView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	filter, err := p.filter()
	if err != nil {
		return nil, err
	}
	found, err := a.store.Decisions(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return list(found, viewLogged), nil
}

type shownDecision struct {
	Body loggedView
}

func (a *API) getDecision(ctx context.Context, _ *request, p *decisionPath, _ *none) (*shownDecision, error) {
	found, err := a.store.Decision(ctx, p.Decision)
	if err != nil {
		return nil, err
	}
	return &shownDecision{viewLogged(found)}, nil
}

func (a *API) listOPAStatuses(ctx context.Context, _ *request, p *PageQuery, _ *none) (*listed[opaView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	found, err := a.store.OPAStatuses(ctx, page)
	if err != nil {
		return nil, err
	}
	return list(found, viewOPA), nil
}
