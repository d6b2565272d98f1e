package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagEnvironments = "Environments"

// regroupTries is how often an owner's change of groups is tried anew when the
// environment changes between its two steps.
const regroupTries = 5

type environmentPath struct {
	AccountPath

	Environment policies.EnvironmentID `path:"environment" doc:"The environment's id." example:"my-app"`
}

type environmentView struct {
	ID     policies.EnvironmentID `json:"id"`
	Name   string                 `json:"name"`
	Groups []policies.GroupID     `json:"groups" doc:"The groups in which it stands."`
	ETag   string                 `json:"etag"`
}

func viewEnvironment(i store.Item[policies.Environment]) environmentView {
	return environmentView{ID: i.Value.ID, Name: i.Value.Name, Groups: i.Value.Groups, ETag: i.ETag}
}

type environmentInput struct {
	Name   *string            `json:"name" minLength:"1" maxLength:"200" example:"My app"`
	Groups []policies.GroupID `json:"groups,omitzero" doc:"The groups in which it stands, at any depth; absent is none."`
}

type transferInput struct {
	To *policies.AccountID `json:"to" doc:"The account that owns it from now on."`
}

type environmentsQuery struct {
	AccountPath
	PageQuery
}

func (a *API) environmentOperations() {
	register(a, spec{
		id: "put-environment", method: http.MethodPut, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary:     "Make or change an environment",
		description: "Acting as the owner only `groups` may change: environments are made, renamed and deleted by the platform's services.",
		scope:       policies.ScopeResources, who: whoOwner, also: []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putEnvironment)
	register(a, spec{
		id: "get-environment", method: http.MethodGet, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary: "Show an environment", scope: policies.ScopeResources, who: whoOwner,
	}, a.getEnvironment)
	register(a, spec{
		id: "delete-environment", method: http.MethodDelete, path: "/accounts/{account}/environments/{environment}", tag: tagEnvironments,
		summary: "Delete an environment", description: "Its grants disappear.",
		scope: policies.ScopeResources, who: whoServices, status: http.StatusNoContent,
	}, a.deleteEnvironment)
	register(a, spec{
		id: "list-environments", method: http.MethodGet, path: "/accounts/{account}/environments", tag: tagEnvironments,
		summary: "List the environments", scope: policies.ScopeResources, who: whoOwner, errors: []int{http.StatusUnprocessableEntity},
	}, a.listEnvironments)
	register(a, spec{
		id: "transfer-environment", method: http.MethodPost, path: "/accounts/{account}/environments/{environment}/transfer", tag: tagEnvironments,
		summary: "Move an environment to another owner", description: "Its grants and its places in groups end.",
		scope: policies.ScopeResources, who: whoServices, errors: []int{http.StatusConflict},
	}, a.transferEnvironment)
}

func (a *API) putEnvironment(ctx context.Context, r *request, p *environmentPath, b *environmentInput) (*written[environmentView], error) {
	environment := policies.Environment{ID: p.Environment, Name: value(b.Name), Groups: b.Groups}
	put := func(call store.Call) (store.Result[policies.Environment], error) {
		return a.store.PutEnvironment(ctx, call, p.Account, environment)
	}
	var (
		result store.Result[policies.Environment]
		err    error
	)
	if r.caller.account() == "" {
		result, err = put(r.caller.call())
	} else {
		result, err = a.regroup(ctx, r, p, environment.Name, put)
	}
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewEnvironment(itemOf(result))), nil
}

// regroup lets an owner change an environment's groups and nothing else: the
// write demands the very object whose name was compared.
func (a *API) regroup(
	ctx context.Context, r *request, p *environmentPath, name string, put func(store.Call) (store.Result[policies.Environment], error),
) (store.Result[policies.Environment], error) {
	forbidden := &policies.ForbiddenError{Reason: "Only the platform's services make and rename environments; an owner may change the groups."}
	call := r.caller.call()
	for try := 1; ; try++ {
		item, err := a.store.GetEnvironment(ctx, p.Account, p.Environment)
		if notFound(err) {
			return store.Result[policies.Environment]{}, forbidden
		}
		if err != nil {
			return store.Result[policies.Environment]{}, err
		}
		if policies.NormalizeName(name) != item.Value.Name {
			return store.Result[policies.Environment]{}, forbidden
		}
		if r.caller.ifMatch == "" || r.caller.ifMatch == "*" {
			call.IfMatch = item.ETag
		}
		result, err := put(call)
		var lost *policies.PreconditionError
		if call.IfMatch == r.caller.ifMatch || try == regroupTries || !errors.As(err, &lost) {
			return result, err
		}
	}
}

func (a *API) getEnvironment(ctx context.Context, _ *request, p *environmentPath, _ *none) (*shown[environmentView], error) {
	item, err := a.store.GetEnvironment(ctx, p.Account, p.Environment)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewEnvironment(item)), nil
}

func (a *API) deleteEnvironment(ctx context.Context, r *request, p *environmentPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteEnvironment(ctx, r.caller.call(), p.Account, p.Environment)
	if err != nil {
		return nil, err
	}
	return deleted(a, result), nil
}

func (a *API) listEnvironments(ctx context.Context, _ *request, p *environmentsQuery, _ *none) (*listed[environmentView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	items, err := a.store.ListEnvironments(ctx, p.Account, page)
	if err != nil {
		return nil, err
	}
	return list(items, viewEnvironment), nil
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
