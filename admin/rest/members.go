package rest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagMembers = "Members"

// MemberPath is a member of an account.
type MemberPath struct {
	AccountPath

	Member policies.CollaborationID `path:"member" doc:"The collaboration's id."`
}

type memberView struct {
	ID          policies.CollaborationID `json:"id" doc:"The collaboration's id."`
	Email       string                   `json:"email,omitzero" format:"email" doc:"Absent where the caller may not see the member."`
	Account     *policies.AccountID      `json:"account,omitzero" doc:"The member's account, once known."`
	DisplayName string                   `json:"display_name" doc:"The name that the owner gave."`
	Status      policies.Status          `json:"status,omitzero" doc:"Absent as the email is."`
	LastChanged time.Time                `json:"last_changed"`
	Grants      []grantView              `json:"grants"`
	ETag        string                   `json:"etag"`
}

func viewMember(i store.Item[policies.Member]) memberView {
	m := i.Value
	view := memberView{
		ID: m.ID, Email: m.Email, Account: m.Account, DisplayName: m.DisplayName, Status: m.Status,
		LastChanged: m.LastChanged.UTC(), Grants: make([]grantView, len(m.Grants)), ETag: i.ETag,
	}
	for i, g := range m.Grants {
		view.Grants[i] = viewGrant(g)
	}
	return view
}

type invitationInput struct {
	Email       *string       `json:"email" format:"email" maxLength:"254" example:"mia@example.com"`
	DisplayName *string       `json:"display_name,omitzero" maxLength:"200"`
	Grants      *[]grantInput `json:"grants,omitzero" doc:"Absent: none for a new member; what an ended collaboration kept for a re-invited one."`
}

type memberPatch struct {
	DisplayName *string `json:"display_name,omitzero" maxLength:"200"`
}

type memberCopy struct {
	Email       *string `json:"email" format:"email" maxLength:"254"`
	DisplayName *string `json:"display_name,omitzero" maxLength:"200"`
}

type membersQuery struct {
	AccountPath
	PageQuery

	Search string `query:"search" doc:"A part of the email address or the display name, without case." example:"mia"`
	Status string `query:"status" doc:"Only these statuses, separated by commas." example:"active,suspended"`
	Sort   string `query:"sort" enum:"name,-name,email,-email,status,-status,last_changed,-last_changed" doc:"The order; - turns it round." default:"name"`
}

func (q membersQuery) filter() (store.MemberFilter, error) {
	f := store.MemberFilter{Search: q.Search, Statuses: words[policies.Status](q.Status)}
	for _, s := range f.Statuses {
		if _, ok := knownStatuses()[s]; !ok {
			return f, invalid("status", "must be among pending, active, suspended, left, rejected, expired and removed")
		}
	}
	var name string
	name, f.Descending = strings.CutPrefix(q.Sort, "-")
	switch f.Sort = store.MemberSort(name); f.Sort {
	case "":
		f.Sort = store.SortName
	case store.SortName, store.SortEmail, store.SortStatus, store.SortLastChanged:
	default:
		return f, invalid("sort", "must be name, email, status or last_changed, with - before it to turn it round")
	}
	return f, nil
}

func knownStatuses() map[policies.Status]struct{} {
	all := make(map[policies.Status]struct{}, len(policies.Statuses))
	for _, s := range policies.Statuses {
		all[s] = struct{}{}
	}
	return all
}

func (a *API) memberOperations() {
	register(a, spec{
		id: "list-members", method: http.MethodGet, read: true, path: "/accounts/{account}/members", tag: tagMembers, summary: "List, search and sort the members",
		scope: policies.ScopeCollaboration, who: whoMembers,
		right:  "with users.collaboration.GetMembers on the account; without it, itself.",
		errors: []int{http.StatusUnprocessableEntity},
	}, a.listMembers)
	register(a, spec{
		id: "invite-member", method: http.MethodPost, path: "/accounts/{account}/members", tag: tagMembers, summary: "Invite or re-invite an address",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "with users.collaboration.InviteMember on each item of the grants, of which there must be one.",
		status: http.StatusCreated, noMatch: true, errors: []int{http.StatusConflict},
	}, a.inviteMember)
	register(a, spec{
		id: "get-member", method: http.MethodGet, read: true, path: "/accounts/{account}/members/{member}", tag: tagMembers, summary: "Show a member",
		scope: policies.ScopeCollaboration, who: whoMembers, right: "itself, or with users.collaboration.GetMembers on the account.",
	}, a.getMember)
	register(a, spec{
		id: "update-member", method: http.MethodPatch, path: "/accounts/{account}/members/{member}", tag: tagMembers, summary: "Rename a member",
		scope: policies.ScopeCollaboration, dryRun: true, who: whoMembers, right: "with users.collaboration.EditMember on the account.",
	}, a.updateMember)
	register(a, spec{
		id: "remove-member", method: http.MethodDelete, path: "/accounts/{account}/members/{member}", tag: tagMembers, summary: "Remove a member",
		description: "Sharing ends, and the grants are deleted. Removing what is removed already changes nothing.",
		scope:       policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "with users.collaboration.DeleteMember on the account.",
		status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.removeMember)
	for _, event := range []struct {
		name, summary string
		right         policies.ActionName
		do            memberEvent
	}{
		{"suspend", "Suspend an active member", rights.SuspendMember, a.store.Suspend},
		{"activate", "Activate a suspended member", rights.ActivateMember, a.store.Activate},
		{"resend", "Begin the time of a pending invitation anew", rights.ResendMemberInvitation, a.store.Resend},
		{"reinvite", "Invite anew a member whose collaboration has ended", rights.ResendMemberInvitation, a.store.Reinvite},
	} {
		register(a, spec{
			id: event.name + "-member", method: http.MethodPost, path: "/accounts/{account}/members/{member}/" + event.name, tag: tagMembers,
			summary: event.summary, scope: policies.ScopeCollaboration, dryRun: true, who: whoMembers,
			right:  "with " + string(event.right) + " on the account.",
			errors: []int{http.StatusConflict},
		}, a.memberEvent(event.do))
	}
	register(a, spec{
		id: "copy-member", method: http.MethodPost, path: "/accounts/{account}/members/{member}/copy", tag: tagMembers,
		summary: "Invite another address with the same grants",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "with users.collaboration.CopyMember on the account.",
		status: http.StatusCreated, noMatch: true, errors: []int{http.StatusConflict},
	}, a.copyMember)
}

func (a *API) listMembers(ctx context.Context, r *request, p *membersQuery, _ *none) (*listed[memberView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	filter, err := p.filter()
	if err != nil {
		return nil, err
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	var items store.List[store.Item[policies.Member]]
	all, err := sees.members(ctx)
	switch {
	case err != nil:
	case all:
		items, err = a.store.ListMembers(ctx, p.Account, filter, page)
	default:
		items, err = a.listSelf(ctx, sees, filter, page)
	}
	if err != nil {
		return nil, err
	}
	for i, item := range items.Items {
		if items.Items[i].Value.Grants, err = sees.grants(ctx, item.Value); err != nil {
			return nil, err
		}
	}
	return list(items, viewMember), nil
}

// listSelf is the list of those who see nobody but themselves.
func (a *API) listSelf(
	ctx context.Context, sees *sight, filter store.MemberFilter, page store.Page,
) (store.List[store.Item[policies.Member]], error) {
	id, ok := sees.record()
	if !ok {
		return store.List[store.Item[policies.Member]]{}, nil
	}
	return a.store.ListMember(ctx, sees.owner, id, filter, page)
}

func (a *API) inviteMember(ctx context.Context, r *request, p *AccountPath, b *invitationInput) (*written[memberView], error) {
	invitation := store.Invitation{Email: value(b.Email), DisplayName: b.DisplayName}
	if b.Grants != nil {
		invitation.Grants = grantsOf(*b.Grants)
	}
	result, err := a.store.Invite(ctx, r.caller.call(), p.Account, invitation)
	if err != nil {
		return nil, err
	}
	return a.invited(ctx, r, p.Account, result)
}

// invited answers an invitation.
func (a *API) invited(
	ctx context.Context, r *request, owner policies.AccountID, result store.Result[policies.Member],
) (*written[memberView], error) {
	return a.wroteMember(ctx, r, owner, result, (*sight).invited)
}

// wroteMember answers a write of a member with what the caller may see of it.
func (a *API) wroteMember(
	ctx context.Context, r *request, owner policies.AccountID, result store.Result[policies.Member],
	view func(*sight, context.Context, store.Item[policies.Member]) (memberView, error),
) (*written[memberView], error) {
	return seenAfter(ctx, a, r, owner, wrote(a, r, result, viewMember(itemOf(result))), func(sees *sight, ctx context.Context, answer *memberView) (err error) {
		*answer, err = view(sees, ctx, itemOf(result))
		return err
	})
}

// done is the problem of a write that was made, and cannot be shown.
func done(revision string) error {
	p := NewProblem(problemOutcomeUnknown, "The write was made, at revision "+revision+"; what follows from it cannot be told now.")
	p.set(headerRevision, revision)
	return p
}

func (a *API) getMember(ctx context.Context, r *request, p *MemberPath, _ *none) (*shown[memberView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	all, err := sees.members(ctx)
	if err != nil {
		return nil, err
	}
	item, err := a.store.GetMember(ctx, p.Account, p.Member)
	if err == nil && !all && !sees.itself(item.Value) {
		err = &policies.NotFoundError{Kind: "member", ID: string(p.Member)}
	}
	if err != nil {
		return nil, err
	}
	if item.Value.Grants, err = sees.grants(ctx, item.Value); err != nil {
		return nil, err
	}
	return show(item.ETag, viewMember(item)), nil
}

func (a *API) updateMember(ctx context.Context, r *request, p *MemberPath, b *memberPatch) (*written[memberView], error) {
	name := b.DisplayName
	result, err := a.store.UpdateMember(ctx, r.caller.call(), p.Account, p.Member, name)
	if err != nil {
		return nil, err
	}
	return a.wroteMember(ctx, r, p.Account, result, (*sight).view)
}

func (a *API) removeMember(ctx context.Context, r *request, p *MemberPath, _ *none) (*gone, error) {
	result, err := a.store.RemoveMember(ctx, r.caller.call(), p.Account, p.Member)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

// memberEvent is an event in the life of a collaboration by its owner.
type memberEvent func(context.Context, store.Call, policies.AccountID, policies.CollaborationID) (store.Result[policies.Member], error)

func (a *API) memberEvent(do memberEvent) func(context.Context, *request, *MemberPath, *none) (*written[memberView], error) {
	return func(ctx context.Context, r *request, p *MemberPath, _ *none) (*written[memberView], error) {
		result, err := do(ctx, r.caller.call(), p.Account, p.Member)
		if err != nil {
			return nil, err
		}
		return a.wroteMember(ctx, r, p.Account, result, (*sight).view)
	}
}

func (a *API) copyMember(ctx context.Context, r *request, p *MemberPath, b *memberCopy) (*written[memberView], error) {
	result, err := a.store.CopyMember(ctx, r.caller.call(), p.Account, p.Member, value(b.Email), b.DisplayName)
	if err != nil {
		return nil, err
	}
	return a.invited(ctx, r, p.Account, result)
}
