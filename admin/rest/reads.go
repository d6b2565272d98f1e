package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// ReadLog writes down who read other people's permissions, without ever waiting.
type ReadLog interface {
	Note(r store.Read)
}

type readView struct {
	Time      time.Time          `json:"time"`
	Actor     auditActor         `json:"actor" doc:"The service that read."`
	Operation string             `json:"operation" doc:"The operation's id in this document."`
	Account   policies.AccountID `json:"account,omitzero" doc:"Whose permissions; absent: the platform's."`
	Path      string             `json:"path" doc:"What was asked for."`
}

func viewRead(r store.Read) readView {
	return readView{
		Time: r.At.UTC(), Actor: auditActor{Token: r.Token, Address: r.Address, RequestID: r.RequestID},
		Operation: r.Operation, Account: r.Owner, Path: r.Path,
	}
}

type readsQuery struct {
	PageQuery

	Actor string `query:"actor" doc:"A token's id."`
}

type accountReads struct {
	AccountPath
	readsQuery
}

func (a *API) readOperations() {
	description := "The newest first. Services that act as nobody are written down where they read permissions, members, collaborators, exports or the audit."
	register(a, spec{
		id: "list-account-reads", method: http.MethodGet, path: "/accounts/{account}/audit/reads", tag: tagAudit,
		summary: "List which services read the permissions of an account", description: description, scope: policies.ScopeAudit, who: whoOwner, read: true,
	}, func(ctx context.Context, _ *request, p *accountReads, _ *none) (*listed[readView], error) {
		return a.listReads(ctx, p.readsQuery, p.Account)
	})
	register(a, spec{
		id: "list-reads", method: http.MethodGet, path: "/audit/reads", tag: tagAudit,
		summary: "List which services read other people's permissions", description: description, scope: policies.ScopeAudit, who: whoServices, read: true,
	}, func(ctx context.Context, _ *request, p *readsQuery, _ *none) (*listed[readView], error) {
		return a.listReads(ctx, *p, "")
	})
}

func (a *API) listReads(ctx context.Context, q readsQuery, owner policies.AccountID) (*listed[readView], error) {
	page, err := q.page()
	if err != nil {
		return nil, err
	}
	reads, err := a.store.ListReads(ctx, store.ReadFilter{Owner: owner, Token: q.Actor}, page)
	if err != nil {
		return nil, err
	}
	return list(reads, viewRead), nil
}

// maxReadPath bounds what is kept of a path.
const maxReadPath = 1024

// noteRead writes down a read by a service that acts as nobody.
func (a *API) noteRead(r *request) {
	if !r.op.read || a.readLog == nil || r.caller.account() != "" {
		return
	}
	path := r.URL.RequestURI()
	a.readLog.Note(store.Read{
		Token: r.caller.actor.Token, Address: r.caller.actor.Address, RequestID: RequestID(r.Context()),
		Operation: r.op.id, Owner: policies.AccountID(r.PathValue("account")), Path: path[:min(len(path), maxReadPath)],
	})
}
