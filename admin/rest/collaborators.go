package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagCollaborators = "Collaborators"

type collaboratorView struct {
	Member      policies.CollaborationID `json:"member" doc:"The collaboration's id."`
	Account     *policies.AccountID      `json:"account,omitzero"`
	Email       string                   `json:"email,omitzero" format:"email" doc:"Absent where the caller may not list the collaborators."`
	DisplayName string                   `json:"display_name"`
	Status      policies.Status          `json:"status,omitzero" doc:"Absent as the email is."`
	Level       policies.Level           `json:"level,omitzero" doc:"The level that counts; absent where none does."`
	Roles       []string                 `json:"roles" doc:"Names of the roles of that level."`
	Levels      levelsView               `json:"levels" doc:"What every level has."`
	ExpiresAt   *time.Time               `json:"expires_at,omitzero" doc:"When the direct grant ends; absent: never."`
	ETag        string                   `json:"etag" doc:"The member's."`
}

type collaboratorsQuery struct {
	AccountPath
	ResourcePath
	PageQuery
}

type collaboratorPath struct {
	AccountPath
	ResourcePath

	Member policies.CollaborationID `path:"member" doc:"The collaboration's id."`
}

func (a *API) collaboratorOperations() {
	a.permissionOperations()
	a.treeOperations()
	register(a, spec{
		id: "list-collaborators", method: http.MethodGet, read: true, path: "/accounts/{account}/resources/{type}/{id}/collaborators", tag: tagCollaborators,
		summary: "List who has a role on a resource, and by which level",
		scope:   policies.ScopeCollaboration, who: whoMembers,
		right:  "with users.collaboration.GetMembers on the resource; without it, itself.",
		errors: []int{http.StatusUnprocessableEntity},
	}, a.listCollaborators)
	register(a, spec{
		id: "put-collaborator", method: http.MethodPut, path: "/accounts/{account}/resources/{type}/{id}/collaborators/{member}", tag: tagCollaborators,
		summary: "Set a member's direct roles on a resource",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right: "with users.collaboration.SetResource on the resource.",
		also:  []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putCollaborator)
	register(a, spec{
		id: "delete-collaborator", method: http.MethodDelete, path: "/accounts/{account}/resources/{type}/{id}/collaborators/{member}", tag: tagCollaborators,
		summary: "Take a member's direct roles on a resource away",
		scope:   policies.ScopeCollaboration, dryRun: true, who: whoMembers,
		right:  "with users.collaboration.DeleteResources on the resource.",
		status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.deleteCollaborator)
	register(a, spec{
		id: "list-load-alert-recipients", method: http.MethodGet, read: true, path: "/accounts/{account}/environments/{environment}/load-alert-recipients",
		tag: tagEnvironments, summary: "List who is told of a load alert on an environment",
		scope: policies.ScopeCollaboration, who: whoOwner,
	}, a.listLoadAlertRecipients)
}

// listCollaborators lists active members as the check sees them, and those whose
// collaboration is not active, of whom no grant counts, by their direct grants.
func (a *API) listCollaborators(ctx context.Context, r *request, p *collaboratorsQuery, _ *none) (*listed[collaboratorView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	resource := p.resource()
	if err := a.ownedBy(resource, p.Account); err != nil {
		return nil, err
	}
	names, err := a.roleNames(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	all, err := sees.may(ctx, rights.GetMembers, resource)
	switch {
	case err != nil:
		return nil, err
	case !all:
		return a.onlyCollaborator(ctx, sees, resource, names, page)
	}
	out := &listed[collaboratorView]{}
	out.Body.Items = []collaboratorView{}
	few := sees.reachedBy(resource)
	for {
		// No more members than there is room for: then their cursor is this list's too.
		members, err := a.listReaching(ctx, p.Account, few, store.Page{Limit: page.Limit - len(out.Body.Items), Cursor: page.Cursor})
		if err != nil {
			return nil, err
		}
		for _, item := range members.Items {
			view, ok, err := a.collaborator(ctx, sees, item, resource, names)
			if err != nil {
				return nil, err
			}
			if ok {
				out.Body.Items = append(out.Body.Items, view)
			}
		}
		page.Cursor = members.NextCursor
		if page.Cursor == "" || len(out.Body.Items) == page.Limit {
			out.Body.NextCursor = page.Cursor
			return out, nil
		}
	}
}

// maxFew is how many members are listed by their ids, if they are not more than a third
// of all: of more, a page of all has enough that count.
const maxFew = 10_000

// reachedBy are the members of whom a grant can count on the resource; nil: more than a
// few.
func (s *sight) reachedBy(resource policies.Resource) []policies.CollaborationID {
	if s.account == nil {
		return nil
	}
	few, all := []policies.CollaborationID{}, 0
	for m := range s.account.Members() {
		all++
		if !s.asker.Reaches(m, resource) {
			continue
		}
		if len(few) == maxFew {
			return nil
		}
		few = append(few, m.ID())
	}
	if len(few) > all/3 { //nolint:mnd // a third, as above
		return nil
	}
	return few
}

// listReaching lists a few members, or all.
func (a *API) listReaching(
	ctx context.Context, owner policies.AccountID, few []policies.CollaborationID, page store.Page,
) (store.List[store.Item[policies.Member]], error) {
	if few != nil {
		return a.store.ListMembersAmong(ctx, owner, few, page)
	}
	return a.store.ListMembers(ctx, owner, store.MemberFilter{Sort: store.SortName}, page)
}

// onlyCollaborator is the list of those who may not list the others. A resource on
// which they have nothing is one that is not there.
func (a *API) onlyCollaborator(
	ctx context.Context, sees *sight, resource policies.Resource, names map[policies.RoleID]string, page store.Page,
) (*listed[collaboratorView], error) {
	shown := false
	out := &listed[collaboratorView]{}
	out.Body.Items = []collaboratorView{}
	for _, at := range []store.Page{{}, page} { // whether it may know of the resource, then the page
		self, err := a.listSelf(ctx, sees, store.MemberFilter{Sort: store.SortName}, at)
		if err != nil {
			return nil, err
		}
		out.Body.Items = out.Body.Items[:0]
		for _, item := range self.Items {
			view, ok, err := a.collaborator(ctx, sees, item, resource, names)
			if err != nil {
				return nil, err
			}
			if shown = shown || ok; ok {
				out.Body.Items = append(out.Body.Items, view)
			}
		}
	}
	if !shown {
		return nil, &policies.NotFoundError{Kind: string(resource.Type), ID: printable(resource.ID)}
	}
	return out, nil
}

// collaborator is what a member has on the resource; false if nothing.
func (a *API) collaborator(
	ctx context.Context, sees *sight, item store.Item[policies.Member], resource policies.Resource, names map[policies.RoleID]string,
) (collaboratorView, bool, error) {
	m := item.Value
	view := collaboratorView{
		Member: m.ID, Account: m.Account, Email: m.Email, DisplayName: m.DisplayName, Status: m.Status,
		Roles: []string{}, Levels: viewLevels(nil), ETag: item.ETag,
	}
	direct := a.directGrant(m, resource)
	if direct != nil {
		view.ExpiresAt = utc(direct.ExpiresAt)
	}
	if m.Status != policies.StatusActive || m.Account == nil {
		if direct != nil {
			for _, role := range direct.Roles {
				view.Levels.Direct = append(view.Levels.Direct, names[role])
			}
		}
		return view, direct != nil, nil
	}
	found, err := sees.explain(ctx, m.ID, resource)
	if err != nil {
		return view, false, err
	}
	view.Level, view.Levels = found.Level, viewLevels(found.Levels)
	view.Roles = append(view.Roles, found.Roles...)
	return view, found.Level != "", sees.hideLevels(ctx, &view.Levels)
}

// explain is what a member has on a resource; nothing, if the engine does not have its
// record.
func (s *sight) explain(ctx context.Context, id policies.CollaborationID, resource policies.Resource) (*difference.Explained, error) {
	if s.account != nil {
		if m, ok := s.account.Member(id); ok {
			return s.asker.Explain(ctx, s.a.engine.Now(), m, resource)
		}
	}
	return &difference.Explained{}, nil
}

// directGrant is the member's live grant on the resource itself.
func (a *API) directGrant(m policies.Member, resource policies.Resource) *policies.Grant {
	for _, g := range m.Grants {
		if g.Resource == resource && (g.ExpiresAt == nil || a.engine.Now().Before(*g.ExpiresAt)) {
			return &g
		}
	}
	return nil
}

func (a *API) roleNames(ctx context.Context, owner policies.AccountID) (map[policies.RoleID]string, error) {
	names := map[policies.RoleID]string{}
	return names, everyPage(func(page store.Page) (string, error) {
		roles, err := a.store.ListRoles(ctx, owner, nil, page)
		for _, role := range roles.Items {
			names[role.Value.ID] = role.Value.Name
		}
		return roles.NextCursor, err
	})
}

// everyPage calls load for one page after the other.
func everyPage(load func(store.Page) (next string, err error)) error {
	page := store.Page{Limit: store.MaxPage}
	for {
		next, err := load(page)
		if err != nil || next == "" {
			return err
		}
		page.Cursor = next
	}
}

func (a *API) putCollaborator(ctx context.Context, r *request, p *collaboratorPath, b *grantRoles) (*written[collaboratorView], error) {
	resource := p.resource()
	result, err := a.store.PutGrant(ctx, r.caller.call(), p.Account, p.Member, b.grant(resource))
	if err != nil {
		return nil, err
	}
	answer := wrote(a, r, result, collaboratorView{})
	if r.dryRun {
		return answer, nil
	}
	answer.Body, err = a.collaboratorAfter(ctx, r, p.Account, itemOf(result), resource)
	if err != nil {
		return nil, done(answer.Revision)
	}
	return answer, nil
}

func (a *API) collaboratorAfter(
	ctx context.Context, r *request, owner policies.AccountID, item store.Item[policies.Member], resource policies.Resource,
) (collaboratorView, error) {
	names, err := a.roleNames(ctx, owner)
	if err != nil {
		return collaboratorView{}, err
	}
	sees, err := a.sightOf(ctx, r, owner)
	if err != nil {
		return collaboratorView{}, err
	}
	listed, err := sees.may(ctx, rights.GetMembers, resource)
	if err != nil {
		return collaboratorView{}, err
	}
	if !listed { // what it has set, and no more
		view := collaboratorView{Member: item.Value.ID, Roles: []string{}, Levels: viewLevels(nil), ETag: item.ETag}
		if direct := a.directGrant(item.Value, resource); direct != nil {
			view.ExpiresAt = utc(direct.ExpiresAt)
			for _, role := range direct.Roles {
				view.Levels.Direct = append(view.Levels.Direct, names[role])
			}
		}
		return view, nil
	}
	view, _, err := a.collaborator(ctx, sees, item, resource, names)
	return view, err
}

func (a *API) deleteCollaborator(ctx context.Context, r *request, p *collaboratorPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteGrant(ctx, r.caller.call(), p.Account, p.Member, p.resource())
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

type recipientView struct {
	Account     policies.AccountID `json:"account"`
	Email       string             `json:"email" format:"email"`
	DisplayName string             `json:"display_name"`
}

// recipientsView has no pages: whoever sends an alert needs all. The owner comes first.
type recipientsView struct {
	Items []recipientView `json:"items"`
}

// listLoadAlertRecipients is the owner, and each active member of whom a role on
// the winning level has receive_load_alerts (domain.md, Load alerts).
func (a *API) listLoadAlertRecipients(ctx context.Context, r *request, p *environmentPath, _ *none) (*shown[recipientsView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	resource := policies.Resource{Type: policies.TypeEnvironment, ID: string(p.Environment)}
	if err := a.ownedBy(resource, p.Account); err != nil {
		return nil, err
	}
	told := []policies.AccountID{p.Account}
	if sees.account != nil {
		for m := range sees.account.Members() {
			found, err := sees.asker.Explain(ctx, a.engine.Now(), m, resource)
			if err != nil {
				return nil, err
			}
			if found.ReceiveLoadAlerts && m.Account() != "" {
				told = append(told, m.Account())
			}
		}
	}
	accounts, err := a.store.AccountsAmong(ctx, told)
	if err != nil {
		return nil, err
	}
	all := recipientsView{Items: []recipientView{}}
	for _, account := range accounts {
		all.Items = append(all.Items, recipientView{Account: account.ID, Email: account.Email, DisplayName: account.DisplayName})
	}
	return show("", all), nil
}
