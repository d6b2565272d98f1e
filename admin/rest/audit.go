package rest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
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

// auditPage is a page of the audit, or, for who asks for lines, all of it.
type auditPage struct {
	Items      []auditView `json:"items"`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Give it as cursor for the next page; absent on the last."`

	// lines writes every item that follows, one a line; nil: the page is asked for.
	lines func(w io.Writer) error
}

// writeLines is for [marshalLines].
func (p auditPage) writeLines(w io.Writer) (bool, error) {
	if p.lines == nil {
		return false, nil
	}
	return true, p.lines(w)
}

type auditAnswer struct{ Body auditPage }

type accountAudit struct {
	AccountPath
	AuditFilters
}

func (a *API) auditOperations() {
	register(a, spec{
		id: "list-account-audit", method: http.MethodGet, read: true, path: "/accounts/{account}/audit", tag: tagAudit, summary: "List the changes of an account",
		description: auditDescription,
		scope:       policies.ScopeAudit, who: whoOwner, media: []string{policies.MediaTypeNDJSON}, errors: []int{http.StatusUnprocessableEntity},
	}, a.listAccountAudit)
	register(a, spec{
		id: "list-audit", method: http.MethodGet, read: true, path: "/audit", tag: tagAudit, summary: "List the changes of the platform",
		description: auditDescription,
		scope:       policies.ScopeAudit, who: whoServices, media: []string{policies.MediaTypeNDJSON}, errors: []int{http.StatusUnprocessableEntity},
	}, a.listAudit)
}

const auditDescription = "With `Accept: application/x-ndjson` the answer is all that follows, an item a line, however much that is."

func (a *API) listAccountAudit(ctx context.Context, r *request, p *accountAudit, _ *none) (*auditAnswer, error) {
	return a.audit(ctx, r, p.AuditFilters, p.Account)
}

func (a *API) listAudit(ctx context.Context, r *request, p *AuditFilters, _ *none) (*auditAnswer, error) {
	return a.audit(ctx, r, *p, "")
}

func (a *API) audit(ctx context.Context, r *request, q AuditFilters, owner policies.AccountID) (*auditAnswer, error) {
	page, err := q.page()
	if err != nil {
		return nil, err
	}
	filter, err := q.filter()
	if err != nil {
		return nil, err
	}
	filter.Owner = owner
	lines, err := a.wantsLines(r)
	if err != nil {
		return nil, err
	}
	if lines && q.Limit != "" {
		return nil, &policies.MalformedError{Where: "limit", Reason: "is for pages: lines come all"}
	}
	if lines {
		page.Limit = store.MaxPage
	}
	// Of lines this is the first page, so that what is wrong is told before they begin.
	entries, err := a.store.Audit(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	first := list(entries, viewEntry).Body
	answer := &auditAnswer{Body: auditPage{Items: first.Items, NextCursor: first.NextCursor}}
	if lines {
		answer.Body.lines = func(w io.Writer) error { return a.auditLines(ctx, r, w, filter, entries) }
	}
	return answer, nil
}

// wantsLines tells whether the caller asks for NDJSON.
func (a *API) wantsLines(r *request) (bool, error) {
	media, err := a.Negotiate(r.Header.Get("Accept"))
	return media == policies.MediaTypeNDJSON, err
}

// linesTimeout is how long a page of lines may take to be read by the caller.
const linesTimeout = 30 * time.Second

// auditLines writes a page and all that follow it.
func (a *API) auditLines(ctx context.Context, r *request, w io.Writer, filter store.AuditFilter, entries store.List[store.Entry]) error {
	control := http.NewResponseController(r.w)
	for {
		var out bytes.Buffer
		for _, e := range entries.Items {
			if err := json.MarshalWrite(&out, viewEntry(e)); err != nil {
				return err
			}
			out.WriteByte('\n')
		}
		_ = control.SetWriteDeadline(time.Now().Add(linesTimeout)) // a writer without deadlines is a test's
		if _, err := w.Write(out.Bytes()); err != nil {
			return err
		}
		if entries.NextCursor == "" {
			return nil
		}
		var err error
		if entries, err = a.store.Audit(ctx, filter, store.Page{Limit: store.MaxPage, Cursor: entries.NextCursor}); err != nil {
			return err
		}
	}
}
