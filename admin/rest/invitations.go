package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// Registrar makes accounts on the platform: for the holder of an invitation's link
// whose address no account has.
type Registrar interface {
	// Register returns the id of the account with that address, which it makes if
	// there is none: calling it again gives the same. It answers in a bounded time.
	Register(ctx context.Context, email, displayName string) (policies.AccountID, error)
}

const tagInvitations = "Invitations"

type linkPath struct {
	Token string `path:"token" doc:"The secret of the link: the last part of its URL."`
}

type invitedPolicy struct {
	ID          policies.PolicyID       `json:"id"`
	Name        string                  `json:"name"`
	Description string                  `json:"description"`
	Resources   []policies.ResourceType `json:"resources" doc:"The kinds of resource on which its actions are checked."`
	Actions     []policies.ActionName   `json:"actions" doc:"What it allows."`
}

type invitedRole struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Policies    []invitedPolicy `json:"policies"`
}

type invitedItem struct {
	Resource  policies.Resource `json:"resource"`
	Name      string            `json:"name" doc:"The environment's or the group's; empty for the others."`
	Roles     []invitedRole     `json:"roles"`
	ExpiresAt *time.Time        `json:"expires_at,omitzero" doc:"When the sharing ends; absent: never."`
}

type invitationView struct {
	Owner       ownerView       `json:"owner" doc:"Who invites."`
	Email       string          `json:"email" format:"email" doc:"The address that was invited."`
	DisplayName string          `json:"display_name" doc:"The name that the owner gave to whoever has the address."`
	Status      policies.Status `json:"status"`
	ExpiresAt   time.Time       `json:"expires_at" doc:"When the invitation ends."`
	SignIn      bool            `json:"sign_in" doc:"An account has the address, and only it may accept. Else accepting registers one."`
	Items       []invitedItem   `json:"items" doc:"What would be shared."`
}

type acceptInput struct {
	DisplayName *string `json:"display_name,omitzero" maxLength:"200" doc:"Of an account that accepting registers; absent: the one that the owner gave."`
}

func (a *API) invitationOperations() {
	register(a, spec{
		id: "get-invitation", method: http.MethodGet, path: "/invitations/{token}", tag: tagInvitations, summary: "Show who invites to what",
		description: "By the link in the mail alone. Nothing is changed: scanners of mail follow links.",
		scope:       policies.ScopeCollaboration, who: whoLink, strangers: true,
	}, a.getInvitation)
	register(a, spec{
		id: "accept-invitation", method: http.MethodPost, path: "/invitations/{token}/accept", tag: tagInvitations, summary: "Accept an invitation by its link",
		description: "By the account that has the address; where no account has it, by whoever holds the link, for whom an account is registered. " +
			"A 401 says that the account must sign in. A refusal does not use the link up.",
		scope: policies.ScopeCollaboration, who: whoLink, strangers: true, noMatch: true, optional: true, errors: []int{http.StatusConflict},
	}, a.acceptInvitation)
	register(a, spec{
		id: "reject-invitation", method: http.MethodPost, path: "/invitations/{token}/reject", tag: tagInvitations, summary: "Decline an invitation by its link",
		scope: policies.ScopeCollaboration, who: whoLink, strangers: true, noMatch: true,
	}, a.rejectInvitation)
}

// noInvitation is the one answer to a link that does not open anything, whatever the
// reason.
func noInvitation() *Problem {
	return NewProblem(problem.NotFound, "The link opens no invitation: it was used, replaced or has expired, or never was one.")
}

// linkError hides why a link opens nothing.
func linkError(err error) error {
	var notFound *policies.NotFoundError
	if errors.As(err, &notFound) {
		return noInvitation()
	}
	return err
}

func signInNeeded() *Problem {
	return NewProblem(problem.Unauthorized, "Only the account with the invited address may accept: sign in with it. The link stays good.")
}

func (a *API) getInvitation(ctx context.Context, _ *request, p *linkPath, _ *none) (*shownOnce[invitationView], error) {
	found, err := a.store.Invitation(ctx, p.Token)
	if err != nil {
		return nil, linkError(err)
	}
	view, err := a.viewInvitation(ctx, found)
	if err != nil {
		return nil, err
	}
	return &shownOnce[invitationView]{CacheControl: noStore, Body: view}, nil
}

// shownOnce is an answer that nobody may keep on the way.
type shownOnce[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

const noStore = "no-store"

func (a *API) viewInvitation(ctx context.Context, found store.LinkedInvitation) (invitationView, error) {
	if err := a.fresh(ctx); err != nil {
		return invitationView{}, err
	}
	c := found.Collaboration
	view := invitationView{
		Owner: ownerView{ID: c.Owner.ID, Email: c.Owner.Email, DisplayName: c.Owner.DisplayName},
		Email: found.Email, DisplayName: found.InvitedAs, Status: c.Status, ExpiresAt: found.ExpiresAt, SignIn: found.Account != "",
		Items: make([]invitedItem, len(c.Items)),
	}
	for i, item := range c.Items {
		invited := invitedItem{Resource: item.Resource, Name: item.Name, Roles: make([]invitedRole, len(item.Roles)), ExpiresAt: utc(item.ExpiresAt)}
		for j, role := range item.Roles {
			shown := invitedRole{Name: role.Name, Description: role.Description, Policies: make([]invitedPolicy, 0, len(role.Policies))}
			for _, id := range role.Policies {
				shown.Policies = append(shown.Policies, a.invitedPolicy(found, id))
			}
			invited.Roles[j] = shown
		}
		view.Items[i] = invited
	}
	return view, nil
}

// invitedPolicy is what a policy of the owner or of the system allows.
func (a *API) invitedPolicy(found store.LinkedInvitation, id policies.PolicyID) invitedPolicy {
	if p, custom := found.Policies[id]; custom {
		return invitedPolicy{ID: p.ID, Name: p.Name, Description: p.Description, Resources: p.Resources, Actions: p.Actions}
	}
	for _, p := range a.engine.State().Policy().Source().Catalogue.Policies {
		if p.ID == id {
			return invitedPolicy{ID: p.ID, Name: p.Name, Description: p.Description, Resources: p.Resources, Actions: p.Actions}
		}
	}
	return invitedPolicy{ID: id, Resources: []policies.ResourceType{}, Actions: []policies.ActionName{}}
}

func (a *API) acceptInvitation(ctx context.Context, r *request, p *linkPath, b *acceptInput) (*written[collaborationView], error) {
	call := linkCall(r, p.Token)
	found, err := a.store.Invitation(ctx, p.Token)
	if err != nil {
		if kept, before, keptErr := a.store.AcceptedBefore(ctx, call); before || keptErr != nil {
			return a.accepted(r, kept), keptErr
		}
		return nil, linkError(err)
	}
	by, err := a.acceptor(ctx, r, found, b)
	if err != nil {
		return nil, err
	}
	call.Account = by.ID
	result, err := a.store.AcceptLink(ctx, call, p.Token, by)
	if err != nil {
		return nil, linkError(err)
	}
	return a.accepted(r, result), nil
}

func (a *API) accepted(r *request, result store.Result[store.Accepted]) *written[collaborationView] {
	view := viewCollaboration(store.Item[store.Collaboration]{Value: result.Value.Collaboration, ETag: result.ETag})
	view.Account = &result.Value.Account
	return wrote(a, r, result, view)
}

// linkCall is the call of a write by a link. Whoever holds it has idempotency keys of
// the link's.
func linkCall(r *request, secret string) store.Call {
	call := r.caller.call()
	if call.Token == "" && call.Account == "" {
		sum := sha256.Sum256([]byte(secret))
		call.IdempotencyCaller = "link/" + hex.EncodeToString(sum[:])
	}
	return call
}

// acceptor is who accepts: the caller's account, or, where no account has the address
// and nobody signed in, one that the platform registers for the holder of the link.
func (a *API) acceptor(ctx context.Context, r *request, found store.LinkedInvitation, b *acceptInput) (store.Acceptor, error) {
	if r.caller.account() != "" {
		by := r.caller.acceptor()
		if b.DisplayName != nil {
			by.DisplayName = *b.DisplayName
		}
		return by, nil
	}
	if found.Account != "" || a.registrar == nil {
		return store.Acceptor{}, signInNeeded()
	}
	name := found.InvitedAs
	if b.DisplayName != nil {
		if reason := policies.CheckName(*b.DisplayName, true); reason != "" {
			return store.Acceptor{}, invalid("display_name", reason)
		}
		name = policies.NormalizeName(*b.DisplayName)
	}
	id, err := a.registrar.Register(ctx, found.Email, name)
	if err != nil {
		a.log.WarnContext(ctx, "the platform did not register an account", "error", err)
		return store.Acceptor{}, NewProblem(problemNothingChanged, "The platform cannot register the account now. The link stays good.")
	}
	return store.Acceptor{Account: policies.Account{ID: id, Email: found.Email, DisplayName: name}, Registers: true}, nil
}

func (a *API) rejectInvitation(ctx context.Context, r *request, p *linkPath, _ *none) (*written[invitationView], error) {
	call := linkCall(r, p.Token)
	found, err := a.store.Invitation(ctx, p.Token)
	if err != nil {
		return nil, linkError(err)
	}
	view, err := a.viewInvitation(ctx, found)
	if err != nil {
		return nil, err
	}
	result, err := a.store.RejectLink(ctx, call, p.Token)
	if err != nil {
		return nil, linkError(err)
	}
	view.Status = policies.StatusRejected
	return wrote(a, r, result, view), nil
}
