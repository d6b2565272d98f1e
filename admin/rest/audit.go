package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagAudit = "Audit"

type auditActor struct {
	Token     string `json:"token,omitzero" doc:"The service token's id."`
	TokenName string `json:"token_name,omitzero" doc:"Its name at that time."`
	Address   string `json:"address,omitzero" doc:"Where the request came from."`
	RequestID string `json:"request_id,omitzero"`
	Local     bool   `json:"local,omitzero" doc:"True for a command on the database itself."`
}

type auditResource struct {
	Kind  policies.Kind      `json:"kind"`
	ID    string             `json:"id"`
	Owner policies.AccountID `json:"owner,omitzero"`
}

type auditView struct {
	Revision policies.Revision  `json:"revision"`
	Ordinal  int                `json:"ordinal" doc:"The item's place in its revision, from 0."`
	Time     time.Time          `json:"time"`
	Actor    auditActor         `json:"actor" doc:"Who made the change."`
	ActedAs  policies.AccountID `json:"acted_as,omitzero" doc:"The account that acted, by itself or by a service."`
	Action   string             `json:"action" doc:"What was called."`
	Resource auditResource      `json:"resource" doc:"What was touched."`
	Before   anyJSON            `json:"before" doc:"The object before; null if there was none."`
	After    anyJSON            `json:"after" doc:"The object after; null if it was deleted."`
}

func viewEntry(e store.Entry) auditView {
	return auditView{
		Revision: e.Revision, Ordinal: e.Ordinal, Time: e.Time.UTC(),
		Actor:   auditActor{Token: e.Actor.Token, TokenName: e.Actor.TokenName, Address: e.Actor.Address, RequestID: e.Actor.RequestID, Local: e.Actor.Local},
		ActedAs: e.Actor.Account, Action: e.Action, Resource: auditResource{Kind: e.Kind, ID: e.ID, Owner: e.Owner},
		Before: anyJSON(e.Before), After: anyJSON(e.After),
	}
}

// anyJSON is a value of the log as it was written; nothing is null.
type anyJSON jsontext.Value

// MarshalJSONTo writes the value as it is.
func (v anyJSON) MarshalJSONTo(e *jsontext.Encoder) error {
	if len(v) == 0 {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteValue(jsontext.Value(v))
}

// AuditFilters choose entries of the audit.
type AuditFilters struct {
	PageQuery

	Since  timeText                 `query:"since" doc:"Only changes at this time or later."`
	Until  timeText                 `query:"until" doc:"Only changes before this time."`
	Actor  string                   `query:"actor" doc:"A token's id, or an account that acted."`
	Action string                   `query:"action" doc:"What was called."`
	Kind   string                   `query:"kind" doc:"The kind of object." example:"grant"`
	ID     string                   `query:"id" doc:"The object's id."`
	Member policies.CollaborationID `query:"member" doc:"What concerns this collaboration."`
	Order  string                   `query:"order" enum:"asc,desc" default:"asc" doc:"By revision."`
}

func (q AuditFilters) filter() (f store.AuditFilter, err error) {
	f = store.AuditFilter{Actor: q.Actor, Action: q.Action, Kind: policies.Kind(q.Kind), ID: q.ID, Member: q.Member}
	if f.Since, err = q.Since.value("since"); err != nil {
		return f, err
	}
	if f.Until, err = q.Until.value("until"); err != nil {
		return f, err
	}
	switch q.Order {
	case "", "asc":
	case "desc":
		f.Descending = true
	default:
		return f, invalid("order", "must be asc or desc")
	}
	return f, nil
}

type accountAudit struct {
	AccountPath
	AuditFilters
}

func (a *API) auditOperations() {
	register(a, spec{
		id: "list-account-audit", method: http.MethodGet, path: "/accounts/{account}/audit", tag: tagAudit, summary: "List the changes of an account",
		scope: policies.ScopeAudit, who: whoOwner, errors: []int{http.StatusUnprocessableEntity},
	}, a.listAccountAudit)
	register(a, spec{
		id: "list-audit", method: http.MethodGet, path: "/audit", tag: tagAudit, summary: "List the changes of the platform",
		scope: policies.ScopeAudit, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.listAudit)
}

func (a *API) listAccountAudit(ctx context.Context, _ *request, p *accountAudit, _ *none) (*listed[auditView], error) {
	return a.audit(ctx, p.AuditFilters, p.Account)
}

func (a *API) listAudit(ctx context.Context, _ *request, p *AuditFilters, _ *none) (*listed[auditView], error) {
	return a.audit(ctx, *p, "")
}

func (a *API) audit(ctx context.Context, q AuditFilters, owner policies.AccountID) (*listed[auditView], error) {
	page, err := q.page()
	if err != nil {
		return nil, err
	}
	filter, err := q.filter()
	if err != nil {
		return nil, err
	}
	filter.Owner = owner
	entries, err := a.store.Audit(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return list(entries, viewEntry), nil
}
