package rest

import (
	"context"
	"net/http"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagAccounts = "Accounts"

// AccountPath is the account that most paths begin with.
type AccountPath struct {
	Account policies.AccountID `path:"account" doc:"The owner's account." example:"acme"`
}

type accountView struct {
	ID          policies.AccountID `json:"id"`
	Email       string             `json:"email" format:"email"`
	DisplayName string             `json:"display_name"`
	ETag        string             `json:"etag"`
}

func viewAccount(etag string, v policies.Account) accountView {
	return accountView{ID: v.ID, Email: v.Email, DisplayName: v.DisplayName, ETag: etag}
}

type accountInput struct {
	Email       *string `json:"email" format:"email" maxLength:"254" doc:"Unique on the platform, compared without case." example:"mia@example.com"`
	DisplayName *string `json:"display_name,omitzero" maxLength:"200" example:"Mia"`
}

func (b *accountInput) account(id policies.AccountID) policies.Account {
	return policies.Account{ID: id, Email: value(b.Email), DisplayName: value(b.DisplayName)}
}

type emailQuery struct {
	Email string `query:"email" required:"true" format:"email" doc:"The address to find, compared without case."`
}

func (a *API) accountOperations() {
	register(a, spec{
		id: "put-account", method: http.MethodPut, path: "/accounts/{account}", tag: tagAccounts, summary: "Make or change an account",
		scope: policies.ScopeResources, who: whoServices, also: []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putAccount)
	register(a, spec{
		id: "get-account", method: http.MethodGet, path: "/accounts/{account}", tag: tagAccounts, summary: "Show an account",
		scope: policies.ScopeResources, who: whoOwner,
	}, a.getAccount)
	register(a, spec{
		id: "delete-account", method: http.MethodDelete, path: "/accounts/{account}", tag: tagAccounts, summary: "Delete an account",
		description: "With its environments, groups, roles, grants and custom policies. Its own memberships become `removed`.",
		scope:       policies.ScopeResources, who: whoServices, status: http.StatusNoContent,
	}, a.deleteAccount)
	register(a, spec{
		id: "find-accounts", method: http.MethodGet, path: "/accounts", tag: tagAccounts, summary: "Find the account with an email address",
		scope: policies.ScopeResources, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.findAccounts)
}

func (a *API) putAccount(ctx context.Context, r *request, p *AccountPath, b *accountInput) (*written[accountView], error) {
	result, err := a.store.PutAccount(ctx, r.caller.call(), b.account(p.Account))
	if err != nil {
		return nil, err
	}
	return wrote(a, r, result, viewAccount(result.ETag, result.Value)), nil
}

func (a *API) getAccount(ctx context.Context, _ *request, p *AccountPath, _ *none) (*shown[accountView], error) {
	item, err := a.store.GetAccount(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewAccount(item.ETag, item.Value)), nil
}

func (a *API) deleteAccount(ctx context.Context, r *request, p *AccountPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteAccount(ctx, r.caller.call(), p.Account)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

func (a *API) findAccounts(ctx context.Context, _ *request, p *emailQuery, _ *none) (*listed[accountView], error) {
	if p.Email == "" {
		return nil, &policies.MalformedError{Where: "email", Reason: "is a parameter that this needs"}
	}
	var found store.List[store.Item[policies.Account]]
	if policies.CheckEmail(p.Email) == "" { // no account has an address that is none
		item, err := a.store.FindAccountByEmail(ctx, p.Email)
		if err != nil && !notFound(err) {
			return nil, err
		}
		if err == nil {
			found.Items = append(found.Items, item)
		}
	}
	return list(found, func(i store.Item[policies.Account]) accountView { return viewAccount(i.ETag, i.Value) }), nil
}
