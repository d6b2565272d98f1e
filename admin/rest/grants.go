package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/usher-authz/usher/policies"
)

// ResourcePath is the resource in a path.
type ResourcePath struct {
	Type policies.ResourceType `path:"type" doc:"The kind of resource."`
	ID   string                `path:"id" maxLength:"128" doc:"The resource's id; for environments, groups and account the owner's." example:"my-app"`
}

func (p ResourcePath) resource() policies.Resource { return policies.Resource{Type: p.Type, ID: p.ID} }

type grantPath struct {
	MemberPath
	ResourcePath
}

type grantView struct {
	Resource  policies.Resource `json:"resource"`
	Roles     []policies.RoleID `json:"roles"`
	ExpiresAt *time.Time        `json:"expires_at,omitzero" doc:"When it ends; absent: never."`
}

func viewGrant(g policies.Grant) grantView {
	return grantView{Resource: g.Resource, Roles: g.Roles, ExpiresAt: utc(g.ExpiresAt)}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

type resourceInput struct {
	Type *policies.ResourceType `json:"type"`
	ID   *string                `json:"id" maxLength:"128" example:"my-app"`
}

type grantInput struct {
	Resource  *resourceInput `json:"resource"`
	Roles     *[]roleRef     `json:"roles" minItems:"1" doc:"Ids or names of the owner's roles."`
	ExpiresAt *timestamp     `json:"expires_at,omitzero" doc:"When it ends; null or absent: never."`
}

type grantsInput struct {
	Grants *[]grantInput `json:"grants" doc:"All grants of the member, at most one for each resource."`
}

type grantRoles struct {
	Roles     *[]roleRef `json:"roles" minItems:"1" doc:"Ids or names of the owner's roles."`
	ExpiresAt *timestamp `json:"expires_at,omitzero" doc:"When it ends; null or absent: never."`
}

// grantsOf are the grants of a body that has passed check.
func grantsOf(inputs []grantInput) []policies.Grant {
	grants := make([]policies.Grant, len(inputs))
	for i, in := range inputs {
		resource := policies.Resource{Type: value(in.Resource.Type), ID: value(in.Resource.ID)}
		grants[i] = (&grantRoles{Roles: in.Roles, ExpiresAt: in.ExpiresAt}).grant(resource)
	}
	return grants
}

// grant is the grant of a body that has passed check.
func (b *grantRoles) grant(resource policies.Resource) policies.Grant {
	at, _ := parseEnd(b.ExpiresAt)
	g := policies.Grant{Resource: resource, ExpiresAt: at}
	for _, role := range value(b.Roles) {
		g.Roles = append(g.Roles, policies.RoleID(role))
	}
	return g
}

func (b *grantRoles) validate() []policies.FieldError { return checkRoles("", b.Roles, b.ExpiresAt) }

func (b *grantsInput) validate() []policies.FieldError { return checkGrants(b.Grants) }

// checkGrants says what is wrong with grants, but for what only the account can
// tell: whether the roles and resources are its own.
func checkGrants(grants *[]grantInput) []policies.FieldError {
	var all []policies.FieldError
	seen := map[policies.Resource]bool{}
	for i, in := range value(grants) {
		field := "grants[" + strconv.Itoa(i) + "]"
		if in.Resource != nil {
			resource := policies.Resource{Type: value(in.Resource.Type), ID: value(in.Resource.ID)}
			for _, e := range resource.Validate() {
				all = append(all, policies.FieldError{Field: field + ".resource." + e.Field, Reason: e.Reason})
			}
			if seen[resource] {
				all = append(all, policies.FieldError{Field: field + ".resource", Reason: "stands twice"})
			}
			seen[resource] = true
		}
		all = append(all, checkRoles(field+".", in.Roles, in.ExpiresAt)...)
	}
	return all
}

func checkRoles(prefix string, roles *[]roleRef, end *timestamp) []policies.FieldError {
	var all []policies.FieldError
	if roles != nil && len(*roles) == 0 {
		all = append(all, policies.FieldError{Field: prefix + "roles", Reason: "must not be empty"})
	}
	for i, role := range value(roles) {
		if reason := policies.CheckName(string(role), false); reason != "" {
			all = append(all, policies.FieldError{Field: prefix + "roles[" + strconv.Itoa(i) + "]", Reason: reason})
		}
	}
	if _, err := parseEnd(end); err != nil {
		all = append(all, policies.FieldError{Field: prefix + "expires_at", Reason: err.Error()})
	}
	return all
}

// parseEnd is when a grant ends; nil is never.
func parseEnd(t *timestamp) (*time.Time, error) {
	if t == nil {
		return nil, nil
	}
	end, err := policies.ParseExpiry(string(*t))
	if err != nil {
		return nil, err
	}
	return &end, nil
}

func (a *API) grantOperations() {
	register(a, spec{
		id: "set-grants", method: http.MethodPut, path: "/accounts/{account}/members/{member}/grants", tag: tagMembers,
		summary: "Replace all grants of a member", scope: policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "for each grant that differs, with users.collaboration.SetResource (users.collaboration.DeleteResources where it goes) on its item.",
		errors: []int{http.StatusConflict},
	}, a.setGrants)
	register(a, spec{
		id: "put-grant", method: http.MethodPut, path: "/accounts/{account}/members/{member}/grants/{type}/{id}", tag: tagMembers,
		summary: "Give or replace a member's grant on one resource",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right: "with users.collaboration.SetResource on the item.",
		also:  []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putGrant)
	register(a, spec{
		id: "delete-grant", method: http.MethodDelete, path: "/accounts/{account}/members/{member}/grants/{type}/{id}", tag: tagMembers,
		summary: "Take a member's grant on one resource away",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "with users.collaboration.DeleteResources on the item.",
		status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.deleteGrant)
}

func (a *API) setGrants(ctx context.Context, r *request, p *MemberPath, b *grantsInput) (*written[memberView], error) {
	result, err := a.store.SetGrants(ctx, r.caller.call(), p.Account, p.Member, grantsOf(value(b.Grants)))
	if err != nil {
		return nil, err
	}
	result.Created = false // the member was there
	return a.wroteMember(ctx, r, p.Account, result, (*sight).view)
}

// grantAnswer is one grant, with the etag of the member that it belongs to.
type grantAnswer struct {
	Resource  policies.Resource `json:"resource"`
	Roles     []policies.RoleID `json:"roles"`
	ExpiresAt *time.Time        `json:"expires_at,omitzero" doc:"When it ends; absent: never."`
	ETag      string            `json:"etag" doc:"The member's."`
}

func (a *API) putGrant(ctx context.Context, r *request, p *grantPath, b *grantRoles) (*written[grantAnswer], error) {
	grant := b.grant(p.resource())
	result, err := a.store.PutGrant(ctx, r.caller.call(), p.Account, p.Member, grant)
	if err != nil {
		return nil, err
	}
	for _, g := range result.Value.Grants {
		if g.Resource == grant.Resource {
			grant = g // with roles as ids
		}
	}
	answer := grantAnswer{Resource: grant.Resource, Roles: grant.Roles, ExpiresAt: utc(grant.ExpiresAt), ETag: result.ETag}
	return wrote(a, r, result, answer), nil
}

func (a *API) deleteGrant(ctx context.Context, r *request, p *grantPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteGrant(ctx, r.caller.call(), p.Account, p.Member, p.resource())
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}
