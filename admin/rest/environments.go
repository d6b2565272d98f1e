package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagEnvironments = "Environments"

type environmentPath struct {
	AccountPath

	Environment policies.EnvironmentID `path:"environment" doc:"The environment's id." example:"my-app"`
}

type environmentView struct {
	ID     policies.EnvironmentID `json:"id"`
	Name   string                 `json:"name"`
	Groups []policies.GroupID     `json:"groups" doc:"The groups in which it stands, as far as they are shared with the caller."`
	ETag   string                 `json:"etag"`
}

func viewEnvironment(i store.Item[policies.Environment]) environmentView {
	return environmentView{ID: i.Value.ID, Name: i.Value.Name, Groups: i.Value.Groups, ETag: i.ETag}
}

type environmentInput struct {
	Name   *string            `json:"name" minLength:"1" maxLength:"200" example:"My app"`
	Groups []policies.GroupID `json:"groups,omitzero" doc:"The groups in which it stands, at any depth; absent is none. Groups that a member does not see stay."`
}

type transferInput struct {
	To *policies.AccountID `json:"to" doc:"The account that owns it from now on."`
}

type environmentsQuery struct {
	AccountPath
	PageQuery
}

// sharedRight is what a member sees of groups and environments.
const sharedRight = "what is shared with it."

func (a *API) environmentOperations() {
	register(a, spec{
		id: "put-environment", method: http.MethodPut, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary:     "Make or change an environment",
		description: "Acting as an account only `groups` may change: environments are made, renamed and deleted by the platform's services.",
		scope:       policies.ScopeResources, dryRun: true, who: whoMembers,
		right: "with environment.control.AttachEnvGroup (or DetachEnvGroup) on the environment and on each group that is added (or taken away).",
		also:  []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putEnvironment)
	register(a, spec{
		id: "get-environment", method: http.MethodGet, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary: "Show an environment", scope: policies.ScopeResources, who: whoMembers, right: sharedRight,
	}, a.getEnvironment)
	register(a, spec{
		id: "delete-environment", method: http.MethodDelete, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary: "Delete an environment", description: "Its grants disappear.",
		scope: policies.ScopeResources, dryRun: true, who: whoServices, status: http.StatusNoContent,
	}, a.deleteEnvironment)
	register(a, spec{
		id: "list-environments", method: http.MethodGet, path: "/accounts/{account}/environments", tag: tagEnvironments,
		summary: "List the environments", scope: policies.ScopeResources, who: whoMembers, right: sharedRight,
		errors: []int{http.StatusUnprocessableEntity},
	}, a.listEnvironments)
	register(a, spec{
		id: "transfer-environment", method: http.MethodPost, path: "/accounts/{account}/environments/{environment}/transfer", tag: tagEnvironments,
		summary: "Move an environment to another owner", description: "Its grants and its places in groups end.",
		scope: policies.ScopeResources, dryRun: true, who: whoServices, errors: []int{http.StatusConflict},
	}, a.transferEnvironment)
}

func (a *API) putEnvironment(ctx context.Context, r *request, p *environmentPath, b *environmentInput) (*written[environmentView], error) {
	environment := policies.Environment{ID: p.Environment, Name: value(b.Name), Groups: b.Groups}
	result, err := a.store.PutEnvironment(ctx, r.caller.call(), p.Account, environment)
	if err != nil {
		return nil, err
	}
	return seenAfter(ctx, a, r, p.Account, wrote(a, r, result, viewEnvironment(itemOf(result))), (*sight).hideGroups)
}

func (a *API) getEnvironment(ctx context.Context, r *request, p *environmentPath, _ *none) (*shown[environmentView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	if err := keptBy(ctx, sees.environment, p.Environment, "environment"); err != nil {
		return nil, err
	}
	item, err := a.store.GetEnvironment(ctx, p.Account, p.Environment)
	if err != nil {
		return nil, err
	}
	view := viewEnvironment(item)
	if err := sees.hideGroups(ctx, &view); err != nil {
		return nil, err
	}
	return show(item.ETag, view), nil
}

// hideGroups takes the groups away that are not shared with the caller.
func (s *sight) hideGroups(ctx context.Context, view *environmentView) error {
	seen := []policies.GroupID{}
	for _, g := range view.Groups {
		ok, err := s.group(ctx, g)
		if err != nil {
			return err
		}
		if ok {
			seen = append(seen, g)
		}
	}
	view.Groups = seen
	return nil
}

func (a *API) deleteEnvironment(ctx context.Context, r *request, p *environmentPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteEnvironment(ctx, r.caller.call(), p.Account, p.Environment)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

func (a *API) listEnvironments(ctx context.Context, r *request, p *environmentsQuery, _ *none) (*listed[environmentView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	items, err := a.store.ListEnvironments(ctx, p.Account, keepOf(sees, sees.environment), page)
	if err != nil {
		return nil, err
	}
	return seenList(ctx, list(items, viewEnvironment), sees.hideGroups)
}

func (a *API) transferEnvironment(ctx context.Context, r *request, p *environmentPath, b *transferInput) (*written[environmentView], error) {
	result, err := a.store.TransferEnvironment(ctx, r.caller.call(), p.Account, p.Environment, value(b.To))
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewEnvironment(itemOf(result))), nil
}

// notFound tells whether err says that something is not there.
func notFound(err error) bool {
	var missing *policies.NotFoundError
	return errors.As(err, &missing)
}
