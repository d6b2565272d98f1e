package rest

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagPolicies = "Policies"

// PolicyPath is a policy of an account, or of the system.
type PolicyPath struct {
	AccountPath

	Policy policies.PolicyID `path:"policy" doc:"The policy's id, custom or system." example:"environment.view"`
}

type policyView struct {
	ID          policies.PolicyID       `json:"id"`
	Name        string                  `json:"name"`
	Description string                  `json:"description"`
	Path        string                  `json:"path,omitzero" doc:"The folder in which a system policy is shown."`
	Resources   []policies.ResourceType `json:"resources" doc:"The kinds of resource on which its actions are checked."`
	Actions     []policies.ActionName   `json:"actions"`
	System      bool                    `json:"system" doc:"True for those of the catalogue, which cannot be changed."`
	ETag        string                  `json:"etag"`
}

func viewPolicy(i store.Item[policies.Policy]) policyView {
	p := i.Value
	return policyView{ID: p.ID, Name: p.Name, Description: p.Description, Resources: p.Resources, Actions: p.Actions, ETag: i.ETag}
}

func viewSystemPolicy(digest policies.Hash, p policies.SystemPolicy) policyView {
	return policyView{
		ID: p.ID, Name: p.Name, Description: p.Description, Path: p.Path, Resources: p.Resources, Actions: p.Actions,
		System: true, ETag: `"c` + digest.String()[:16] + `"`,
	}
}

type policyInput struct {
	ID          *policies.PolicyID       `json:"id,omitzero" doc:"Made by the server if absent."`
	Name        *string                  `json:"name" minLength:"1" maxLength:"200" example:"Deployers"`
	Description *string                  `json:"description,omitzero" maxLength:"200"`
	Resources   *[]policies.ResourceType `json:"resources"`
	Actions     *[]policies.ActionName   `json:"actions" doc:"Any action names; those that the catalogue lacks become known at this owner."`
}

func (b *policyInput) policy() policies.Policy {
	return policies.Policy{
		ID: value(b.ID), Name: value(b.Name), Description: value(b.Description), Resources: value(b.Resources), Actions: value(b.Actions),
	}
}

type policyPatch struct {
	Name        *string                  `json:"name,omitzero" minLength:"1" maxLength:"200"`
	Description *string                  `json:"description,omitzero" maxLength:"200"`
	Resources   *[]policies.ResourceType `json:"resources,omitzero"`
	Actions     *[]policies.ActionName   `json:"actions,omitzero"`
}

type policiesQuery struct {
	AccountPath
	PageQuery
}

// ForceQuery says that uses go too.
type ForceQuery struct {
	Force boolean `query:"force" doc:"Removes the uses too, in the same revision."`
}

type policyDelete struct {
	PolicyPath
	ForceQuery
}

const policiesRight = "the system's, and the account's in roles given to it; all with users.collaboration.GetPolicies on the account or on something " +
	"given to it."

func (a *API) policyOperations() {
	register(a, spec{
		id: "list-system-policies", method: http.MethodGet, path: "/policies", tag: tagPolicies, summary: "List the system policies",
		scope: policies.ScopeCollaboration, who: whoAnyone, errors: []int{http.StatusUnprocessableEntity},
	}, a.listSystemPolicies)
	register(a, spec{
		id: "list-policies", method: http.MethodGet, path: "/accounts/{account}/policies", tag: tagPolicies,
		summary: "List the policies that roles may have: the system's, then the account's own",
		scope:   policies.ScopeCollaboration, who: whoMembers, right: policiesRight, errors: []int{http.StatusUnprocessableEntity},
	}, a.listPolicies)
	register(a, spec{
		id: "create-policy", method: http.MethodPost, path: "/accounts/{account}/policies", tag: tagPolicies, summary: "Make a custom policy",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusCreated, noMatch: true, errors: []int{http.StatusConflict},
	}, a.createPolicy)
	register(a, spec{
		id: "get-policy", method: http.MethodGet, path: "/accounts/{account}/policies/{policy}", tag: tagPolicies, summary: "Show a policy",
		scope: policies.ScopeCollaboration, who: whoMembers, right: policiesRight,
	}, a.getPolicy)
	register(a, spec{
		id: "update-policy", method: http.MethodPatch, path: "/accounts/{account}/policies/{policy}", tag: tagPolicies, summary: "Change a custom policy",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, errors: []int{http.StatusConflict},
	}, a.updatePolicy)
	register(a, spec{
		id: "delete-policy", method: http.MethodDelete, path: "/accounts/{account}/policies/{policy}", tag: tagPolicies, summary: "Remove a custom policy",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoOwner, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.deletePolicy)
}

// Cursors of lists that begin with system policies: the last one shown, or the
// store's cursor.
const (
	cursorSystem = "s:"
	cursorCustom = "c:"
)

// systemPolicies are up to limit of the catalogue in force after the id after,
// by id.
func (a *API) systemPolicies(ctx context.Context, after policies.PolicyID, limit int) (views []policyView, more bool, err error) {
	if err := a.fresh(ctx); err != nil {
		return nil, false, err
	}
	source := a.engine.State().Policy().Source()
	sorted := slices.Clone(source.Catalogue.Policies)
	slices.SortFunc(sorted, func(x, y policies.SystemPolicy) int { return strings.Compare(string(x.ID), string(y.ID)) })
	for _, p := range sorted {
		if p.ID <= after {
			continue
		}
		if len(views) == limit {
			return views, true, nil
		}
		views = append(views, viewSystemPolicy(source.Digest, p))
	}
	return views, false, nil
}

func (a *API) systemPolicy(ctx context.Context, id policies.PolicyID) (policyView, bool, error) {
	if err := a.fresh(ctx); err != nil {
		return policyView{}, false, err
	}
	source := a.engine.State().Policy().Source()
	for _, p := range source.Catalogue.Policies {
		if p.ID == id {
			return viewSystemPolicy(source.Digest, p), true, nil
		}
	}
	return policyView{}, false, nil
}

func encodeCursor(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// decodeCursor tells whether the cursor stands among the system policies, after
// which id, or else what the store's is.
func decodeCursor(s string) (system bool, rest string, err error) {
	if s == "" {
		return true, "", nil
	}
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		if id, ok := strings.CutPrefix(string(data), cursorSystem); ok {
			return true, id, nil
		}
		if cursor, ok := strings.CutPrefix(string(data), cursorCustom); ok {
			return false, cursor, nil
		}
	}
	return false, "", &policies.MalformedError{Where: "cursor", Reason: "is none of this list's"}
}

func (a *API) listSystemPolicies(ctx context.Context, _ *request, p *PageQuery, _ *none) (*listed[policyView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	system, after, err := decodeCursor(page.Cursor)
	if err != nil {
		return nil, err
	}
	if !system {
		return nil, &policies.MalformedError{Where: "cursor", Reason: "is none of this list's"}
	}
	views, more, err := a.systemPolicies(ctx, policies.PolicyID(after), page.Limit)
	if err != nil {
		return nil, err
	}
	out := &listed[policyView]{}
	out.Body.Items = views
	if more {
		out.Body.NextCursor = encodeCursor(cursorSystem + string(views[len(views)-1].ID))
	}
	return out, nil
}

func (a *API) listPolicies(ctx context.Context, r *request, p *policiesQuery, _ *none) (*listed[policyView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	system, rest, err := decodeCursor(page.Cursor)
	if err != nil {
		return nil, err
	}
	out := &listed[policyView]{}
	if _, err := a.store.GetAccount(ctx, p.Account); err != nil {
		return nil, err
	}
	if system {
		views, more, err := a.systemPolicies(ctx, policies.PolicyID(rest), page.Limit)
		if err != nil {
			return nil, err
		}
		out.Body.Items = views
		if more {
			out.Body.NextCursor = encodeCursor(cursorSystem + string(views[len(views)-1].ID))
			return out, nil
		}
		rest = ""
	}
	if page.Limit -= len(out.Body.Items); page.Limit == 0 {
		out.Body.NextCursor = encodeCursor(cursorCustom)
		return out, nil
	}
	page.Cursor = rest
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	keep, err := sees.policies(ctx)
	if err != nil {
		return nil, err
	}
	custom, err := a.store.ListPolicies(ctx, p.Account, keep, page)
	if err != nil {
		return nil, err
	}
	for _, item := range custom.Items {
		out.Body.Items = append(out.Body.Items, viewPolicy(item))
	}
	if custom.NextCursor != "" {
		out.Body.NextCursor = encodeCursor(cursorCustom + custom.NextCursor)
	}
	return out, nil
}

func (a *API) createPolicy(ctx context.Context, r *request, p *AccountPath, b *policyInput) (*written[policyView], error) {
	result, err := a.store.CreatePolicy(ctx, r.caller.call(), p.Account, b.policy())
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewPolicy(itemOf(result))), nil
}

func (a *API) getPolicy(ctx context.Context, r *request, p *PolicyPath, _ *none) (*shown[policyView], error) {
	if system, ok, err := a.systemPolicy(ctx, p.Policy); err != nil {
		return nil, err
	} else if ok {
		if _, err := a.store.GetAccount(ctx, p.Account); err != nil {
			return nil, err
		}
		return show(system.ETag, system), nil
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	keep, err := sees.policies(ctx)
	if err != nil {
		return nil, err
	}
	if err := keptBy(ctx, keep, p.Policy, "policy"); err != nil {
		return nil, err
	}
	item, err := a.store.GetPolicy(ctx, p.Account, p.Policy)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewPolicy(item)), nil
}

// refuseSystem refuses to change what is the catalogue's.
func (a *API) refuseSystem(ctx context.Context, id policies.PolicyID) error {
	_, system, err := a.systemPolicy(ctx, id)
	if err == nil && system {
		return &policies.ForbiddenError{Reason: "A system policy cannot be changed."}
	}
	return err
}

func (a *API) updatePolicy(ctx context.Context, r *request, p *PolicyPath, b *policyPatch) (*written[policyView], error) {
	if err := a.refuseSystem(ctx, p.Policy); err != nil {
		return nil, err
	}
	result, err := a.store.UpdatePolicy(ctx, r.caller.call(), p.Account, p.Policy, store.PolicyPatch{
		Name: b.Name, Description: b.Description, Resources: b.Resources, Actions: b.Actions,
	})
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewPolicy(itemOf(result))), nil
}

func (a *API) deletePolicy(ctx context.Context, r *request, p *policyDelete, _ *none) (*gone, error) {
	force, err := p.Force.value("force")
	if err != nil {
		return nil, err
	}
	if err := a.refuseSystem(ctx, p.Policy); err != nil {
		return nil, err
	}
	result, err := a.store.DeletePolicy(ctx, r.caller.call(), p.Account, p.Policy, force)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}
