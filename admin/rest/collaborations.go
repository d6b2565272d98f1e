package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagCollaborations = "Collaborations"

type collaborationPath struct {
	ID policies.CollaborationID `path:"collaboration" doc:"The collaboration's id."`
}

type ownerView struct {
	ID          policies.AccountID `json:"id"`
	Email       string             `json:"email" format:"email"`
	DisplayName string             `json:"display_name"`
}

type sharedRole struct {
	Name     string              `json:"name"`
	Policies []policies.PolicyID `json:"policies"`
}

type sharedItem struct {
	Resource  policies.Resource `json:"resource"`
	Name      string            `json:"name" doc:"The environment's or the group's; empty for the others."`
	Roles     []sharedRole      `json:"roles"`
	ExpiresAt *time.Time        `json:"expires_at,omitzero" doc:"When the sharing ends; absent: never."`
}

type collaborationView struct {
	ID          policies.CollaborationID `json:"id"`
	Owner       ownerView                `json:"owner"`
	DisplayName string                   `json:"display_name" doc:"The name that the member gave."`
	Status      policies.Status          `json:"status"`
	LastChanged time.Time                `json:"last_changed"`
	Items       []sharedItem             `json:"items" doc:"What is shared with the member."`
	ETag        string                   `json:"etag"`
	Account     *policies.AccountID      `json:"account,omitzero" doc:"The account that is the member: in the answer to an accepted link only, which may have registered it."`
}

func viewCollaboration(i store.Item[store.Collaboration]) collaborationView {
	c := i.Value
	view := collaborationView{
		ID: c.ID, Owner: ownerView{ID: c.Owner.ID, Email: c.Owner.Email, DisplayName: c.Owner.DisplayName},
		DisplayName: c.DisplayName, Status: c.Status, LastChanged: c.LastChanged.UTC(),
		Items: make([]sharedItem, len(c.Items)), ETag: i.ETag,
	}
	for i, item := range c.Items {
		shared := sharedItem{Resource: item.Resource, Name: item.Name, Roles: make([]sharedRole, len(item.Roles)), ExpiresAt: utc(item.ExpiresAt)}
		for j, role := range item.Roles {
			shared.Roles[j] = sharedRole{Name: role.Name, Policies: role.Policies}
		}
		view.Items[i] = shared
	}
	return view
}

func (a *API) collaborationOperations() {
	register(a, spec{
		id: "list-collaborations", method: http.MethodGet, path: "/collaborations", tag: tagCollaborations, summary: "List what is shared with the account",
		scope: policies.ScopeCollaboration, who: whoMember, errors: []int{http.StatusUnprocessableEntity},
	}, a.listCollaborations)
	register(a, spec{
		id: "get-collaboration", method: http.MethodGet, path: "/collaborations/{collaboration}", tag: tagCollaborations, summary: "Show one collaboration",
		scope: policies.ScopeCollaboration, who: whoMember,
	}, a.getCollaboration)
	register(a, spec{
		id: "update-collaboration", method: http.MethodPatch, path: "/collaborations/{collaboration}", tag: tagCollaborations,
		summary: "Set the name that the member shows it under", scope: policies.ScopeCollaboration, who: whoMember,
	}, a.updateCollaboration)
	register(a, spec{
		id: "accept-collaboration", method: http.MethodPost, path: "/collaborations/{collaboration}/accept", tag: tagCollaborations,
		summary: "Accept an invitation",
		description: "By the account that has the invitation's address; one that signed in must have it verified by the provider. " +
			"An account that usher does not know is registered, with that address.",
		scope: policies.ScopeCollaboration, who: whoMember, strangers: true, errors: []int{http.StatusConflict},
	}, a.acceptCollaboration)
	for _, event := range []struct {
		name, summary string
		do            collaborationEvent
	}{
		{"reject", "Reject an invitation", a.store.Reject},
		{"leave", "Leave a collaboration", a.store.Leave},
	} {
		register(a, spec{
			id: event.name + "-collaboration", method: http.MethodPost, path: "/collaborations/{collaboration}/" + event.name, tag: tagCollaborations,
			summary: event.summary, scope: policies.ScopeCollaboration, who: whoMember, errors: []int{http.StatusConflict},
		}, a.collaborationEvent(event.do))
	}
}

func (a *API) listCollaborations(ctx context.Context, r *request, p *PageQuery, _ *none) (*listed[collaborationView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	items, err := a.store.ListCollaborations(ctx, r.caller.account(), page)
	if err != nil {
		return nil, err
	}
	return list(items, viewCollaboration), nil
}

func (a *API) getCollaboration(ctx context.Context, r *request, p *collaborationPath, _ *none) (*shown[collaborationView], error) {
	item, err := a.store.GetCollaboration(ctx, r.caller.account(), p.ID)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewCollaboration(item)), nil
}

func (a *API) updateCollaboration(ctx context.Context, r *request, p *collaborationPath, b *memberPatch) (*written[collaborationView], error) {
	name := b.DisplayName
	if name == nil { // nothing to change: the name that it has
		item, err := a.store.GetCollaboration(ctx, r.caller.account(), p.ID)
		if err != nil {
			return nil, err
		}
		name = &item.Value.DisplayName
	}
	result, err := a.store.UpdateCollaboration(ctx, r.caller.call(), r.caller.account(), p.ID, *name)
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewCollaboration(itemOf(result))), nil
}

func (a *API) acceptCollaboration(ctx context.Context, r *request, p *collaborationPath, _ *none) (*written[collaborationView], error) {
	result, err := a.store.Accept(ctx, r.caller.call(), r.caller.acceptor(), p.ID)
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewCollaboration(itemOf(result))), nil
}

// collaborationEvent is an event in the life of a collaboration by its member.
type collaborationEvent func(context.Context, store.Call, policies.AccountID, policies.CollaborationID) (store.Result[store.Collaboration], error)

func (a *API) collaborationEvent(do collaborationEvent) func(context.Context, *request, *collaborationPath, *none) (*written[collaborationView], error) {
	return func(ctx context.Context, r *request, p *collaborationPath, _ *none) (*written[collaborationView], error) {
		result, err := do(ctx, r.caller.call(), r.caller.account(), p.ID)
		if err != nil {
			return nil, err
		}
		return wrote(a, r, result, viewCollaboration(itemOf(result))), nil
	}
}
