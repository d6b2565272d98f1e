package rest

import (
	"context"
	"net/http"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagRoles = "Roles"

// RolePath is a role of an account.
type RolePath struct {
	AccountPath

	Role policies.RoleID `path:"role" doc:"The role's id." example:"viewer"`
}

type roleView struct {
	ID                policies.RoleID     `json:"id"`
	Name              string              `json:"name"`
	Description       string              `json:"description"`
	Policies          []policies.PolicyID `json:"policies"`
	ReceiveLoadAlerts bool                `json:"receive_load_alerts"`
	ETag              string              `json:"etag"`
}

func viewRole(i store.Item[policies.Role]) roleView {
	r := i.Value
	return roleView{ID: r.ID, Name: r.Name, Description: r.Description, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts, ETag: i.ETag}
}

type roleInput struct {
	ID                *policies.RoleID     `json:"id,omitzero" doc:"Made by the server if absent."`
	Name              *string              `json:"name" minLength:"1" maxLength:"200" doc:"Unique in the account, compared without case." example:"Viewer"`
	Description       *string              `json:"description,omitzero" maxLength:"200"`
	Policies          *[]policies.PolicyID `json:"policies" doc:"System and custom ones."`
	ReceiveLoadAlerts *bool                `json:"receive_load_alerts,omitzero" default:"false" doc:"Members with it are told of load alerts."`
}

func (b *roleInput) role() policies.Role {
	return policies.Role{
		ID: value(b.ID), Name: value(b.Name), Description: value(b.Description), Policies: value(b.Policies),
		ReceiveLoadAlerts: value(b.ReceiveLoadAlerts),
	}
}

type rolePatch struct {
	Name              *string              `json:"name,omitzero" minLength:"1" maxLength:"200"`
	Description       *string              `json:"description,omitzero" maxLength:"200"`
	Policies          *[]policies.PolicyID `json:"policies,omitzero"`
	ReceiveLoadAlerts *bool                `json:"receive_load_alerts,omitzero"`
}

type roleCopy struct {
	Name *string `json:"name,omitzero" minLength:"1" maxLength:"200" doc:"The copy's name; made from the role's if absent."`
}

type rolesQuery struct {
	AccountPath
	PageQuery
}

type roleDelete struct {
	RolePath
	ForceQuery
}

// rolesMade is the answer to roles/defaults.
type rolesMade struct {
	Items []roleView `json:"items" doc:"The roles that were made: those that were missing."`
}

const rolesRight = "the roles given to it; all with users.collaboration.GetRoles on the account or on something given to it."

func (a *API) roleOperations() {
	register(a, spec{
		id: "list-roles", method: http.MethodGet, path: "/accounts/{account}/roles", tag: tagRoles, summary: "List the roles",
		scope: policies.ScopeCollaboration, who: whoMembers, right: rolesRight, errors: []int{http.StatusUnprocessableEntity},
	}, a.listRoles)
	register(a, spec{
		id: "create-role", method: http.MethodPost, path: "/accounts/{account}/roles", tag: tagRoles, summary: "Make a role",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusCreated, noMatch: true, errors: []int{http.StatusConflict},
	}, a.createRole)
	register(a, spec{
		id: "get-role", method: http.MethodGet, path: "/accounts/{account}/roles/{role}", tag: tagRoles, summary: "Show a role",
		scope: policies.ScopeCollaboration, who: whoMembers, right: rolesRight,
	}, a.getRole)
	register(a, spec{
		id: "update-role", method: http.MethodPatch, path: "/accounts/{account}/roles/{role}", tag: tagRoles, summary: "Change a role",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, errors: []int{http.StatusConflict},
	}, a.updateRole)
	register(a, spec{
		id: "delete-role", method: http.MethodDelete, path: "/accounts/{account}/roles/{role}", tag: tagRoles, summary: "Remove a role",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.deleteRole)
	register(a, spec{
		id: "copy-role", method: http.MethodPost, path: "/accounts/{account}/roles/{role}/copy", tag: tagRoles, summary: "Copy a role",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusCreated,
		noMatch: true, optional: true, errors: []int{http.StatusConflict},
	}, a.copyRole)
	register(a, spec{
		id: "make-default-roles", method: http.MethodPost, path: "/accounts/{account}/roles/defaults", tag: tagRoles,
		summary: "Make the catalogue's example roles that are missing",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusCreated, noMatch: true, errors: []int{http.StatusConflict},
	}, a.makeDefaultRoles)
}

func (a *API) listRoles(ctx context.Context, r *request, p *rolesQuery, _ *none) (*listed[roleView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	keep, err := sees.roles(ctx)
	if err != nil {
		return nil, err
	}
	items, err := a.store.ListRoles(ctx, p.Account, keep, page)
	if err != nil {
		return nil, err
	}
	return list(items, viewRole), nil
}

func (a *API) createRole(ctx context.Context, r *request, p *AccountPath, b *roleInput) (*written[roleView], error) {
	result, err := a.store.CreateRole(ctx, r.caller.call(), p.Account, b.role())
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewRole(itemOf(result))), nil
}

func (a *API) getRole(ctx context.Context, r *request, p *RolePath, _ *none) (*shown[roleView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	keep, err := sees.roles(ctx)
	if err != nil {
		return nil, err
	}
	if err := keptBy(ctx, keep, p.Role, "role"); err != nil {
		return nil, err
	}
	item, err := a.store.GetRole(ctx, p.Account, p.Role)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewRole(item)), nil
}

func (a *API) updateRole(ctx context.Context, r *request, p *RolePath, b *rolePatch) (*written[roleView], error) {
	result, err := a.store.UpdateRole(ctx, r.caller.call(), p.Account, p.Role, store.RolePatch{
		Name: b.Name, Description: b.Description, Policies: b.Policies, ReceiveLoadAlerts: b.ReceiveLoadAlerts,
	})
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewRole(itemOf(result))), nil
}

func (a *API) deleteRole(ctx context.Context, r *request, p *roleDelete, _ *none) (*gone, error) {
	force, err := p.Force.value("force")
	if err != nil {
		return nil, err
	}
	result, err := a.store.DeleteRole(ctx, r.caller.call(), p.Account, p.Role, force)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

func (a *API) copyRole(ctx context.Context, r *request, p *RolePath, b *roleCopy) (*written[roleView], error) {
	result, err := a.store.CopyRole(ctx, r.caller.call(), p.Account, p.Role, value(b.Name))
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewRole(itemOf(result))), nil
}

func (a *API) makeDefaultRoles(ctx context.Context, r *request, p *AccountPath, _ *none) (*written[rolesMade], error) {
	result, err := a.store.MakeDefaultRoles(ctx, r.caller.call(), p.Account)
	if err != nil {
		return nil, err
	}
	made := rolesMade{Items: make([]roleView, len(result.Value))}
	for i, item := range result.Value {
		made.Items[i] = viewRole(item)
	}
	return wrote(a, r, result, made), nil
}
