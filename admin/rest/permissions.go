package rest

import (
	"context"
	"net/http"
	"slices"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// levelsView is what every access level has, as the check would use it: names of
// roles.
type levelsView struct {
	Direct          []string         `json:"direct"`
	SharedEnvGroups []groupRolesView `json:"shared_env_groups"`
	Base            []string         `json:"base"`
}

type groupRolesView struct {
	Group         policies.GroupID `json:"group,omitzero" doc:"Absent where it is not shared with the caller."`
	Roles         []string         `json:"roles"`
	InheritedFrom string           `json:"inherited_from,omitzero" doc:"The group above that the roles come from, or groups for the category; absent for the group's own, and where it is not shared with the caller."`
}

func viewLevels(l *authz.Levels) levelsView {
	view := levelsView{Direct: []string{}, SharedEnvGroups: []groupRolesView{}, Base: []string{}}
	if l == nil {
		return view
	}
	view.Direct, view.Base = append(view.Direct, l.Direct...), append(view.Base, l.Base...)
	for _, g := range l.SharedEnvGroups {
		view.SharedEnvGroups = append(view.SharedEnvGroups, groupRolesView{Group: g.Group, Roles: g.Roles, InheritedFrom: g.InheritedFrom})
	}
	return view
}

// inheritedFromCategory is what stands for the category in groupRolesView.
const inheritedFromCategory = "groups"

// hideLevels takes the groups away that are not shared with the caller, unless it may
// see everybody's items anyway.
func (s *sight) hideLevels(ctx context.Context, view *levelsView) error {
	all, err := s.onAccount(ctx, rights.GetMemberResources)
	if all || err != nil {
		return err
	}
	for i := range view.SharedEnvGroups {
		found := &view.SharedEnvGroups[i]
		ok, err := s.group(ctx, found.Group)
		if err != nil {
			return err
		}
		if !ok {
			found.Group = ""
		}
		if found.InheritedFrom == "" || found.InheritedFrom == inheritedFromCategory {
			continue
		}
		if ok, err = s.group(ctx, policies.GroupID(found.InheritedFrom)); err != nil {
			return err
		}
		if !ok {
			found.InheritedFrom = ""
		}
	}
	return nil
}

type permissionsView struct {
	Member     policies.CollaborationID `json:"member"`
	Resource   policies.Resource        `json:"resource"`
	Status     policies.Status          `json:"status"`
	Reason     policies.Reason          `json:"reason,omitzero" doc:"Why there is nothing; absent where a level was found."`
	Level      policies.Level           `json:"level,omitzero" doc:"The level that counts."`
	Roles      []string                 `json:"roles" doc:"Names of the roles of that level."`
	Policies   []policies.PolicyID      `json:"policies" doc:"Of these roles, those for this type of resource."`
	Actions    []policies.ActionName    `json:"actions" doc:"What the member may do."`
	Levels     levelsView               `json:"levels" doc:"What every level has."`
	ValidUntil string                   `json:"valid_until,omitzero" format:"date-time" doc:"When the first grant ends on which this rests."`
	Revision   policies.Revision        `json:"revision" doc:"The revision of the data that this comes from."`
}

type permissionsQuery struct {
	MemberPath

	Type policies.ResourceType `query:"type" required:"true" doc:"The kind of resource."`
	ID   string                `query:"id" required:"true" maxLength:"128" doc:"The resource's id." example:"my-app"`
}

func (a *API) getPermissions(ctx context.Context, r *request, p *permissionsQuery, _ *none) (*shown[permissionsView], error) {
	if p.Type == "" || p.ID == "" {
		return nil, &policies.MalformedError{Where: "type, id", Reason: "are parameters that this needs"}
	}
	resource := policies.Resource{Type: p.Type, ID: p.ID}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	member, err := a.memberFor(ctx, sees, p.MemberPath, resource)
	if err != nil {
		return nil, err
	}
	if err := a.ownedBy(resource, p.Account); err != nil {
		return nil, err
	}
	view := permissionsView{
		Member: member.ID, Resource: resource, Status: member.Status,
		Roles: []string{}, Policies: []policies.PolicyID{}, Actions: []policies.ActionName{},
	}
	if member.Account == nil { // nobody has the address yet, so nobody can ask
		view.Reason, view.Levels, view.Revision = policies.Reason("collaboration_"+string(member.Status)), viewLevels(nil), a.engine.State().Revision()
		return show("", view), nil
	}
	found, err := a.engine.Explain(ctx, *member.Account, resource)
	if err != nil {
		return nil, err
	}
	view.Reason, view.Level, view.ValidUntil, view.Revision = found.Reason, found.Level, found.ValidUntil, found.Revision
	view.Roles = append(view.Roles, found.Roles...)
	for _, policy := range found.Policies {
		view.Policies = append(view.Policies, policy.ID)
		view.Actions = append(view.Actions, policy.Actions...)
	}
	slices.Sort(view.Actions)
	view.Actions = slices.Compact(view.Actions)
	view.Levels = viewLevels(found.Levels)
	if err := sees.hideLevels(ctx, &view.Levels); err != nil {
		return nil, err
	}
	return show("", view), nil
}

// memberFor is the member of the path, if the caller may see what it may do on the
// resource.
func (a *API) memberFor(ctx context.Context, sees *sight, p MemberPath, resource policies.Resource) (policies.Member, error) {
	item, err := a.store.GetMember(ctx, p.Account, p.Member)
	if err != nil && !notFound(err) {
		return policies.Member{}, err
	}
	if err == nil && sees.itself(item.Value) {
		return item.Value, nil
	}
	items, mayErr := sees.onAccount(ctx, rights.GetMemberResources)
	if mayErr == nil && !items {
		items, mayErr = sees.may(ctx, rights.GetMembers, resource)
	}
	switch {
	case mayErr != nil:
		return policies.Member{}, mayErr
	case !items:
		return policies.Member{}, &policies.NotFoundError{Kind: "member", ID: string(p.Member)}
	}
	return item.Value, err
}

// ownedBy refuses a resource that is not owner's, as one that is not there.
func (a *API) ownedBy(resource policies.Resource, owner policies.AccountID) error {
	missing := &policies.NotFoundError{Kind: string(resource.Type), ID: printable(resource.ID)}
	if !resource.Type.Valid() {
		return &policies.NotFoundError{Kind: "resource type", ID: printable(string(resource.Type))}
	}
	if !policies.ValidID(resource.ID) {
		return missing
	}
	if found, ok := a.engine.State().OwnerOf(resource); !ok || found != owner {
		return missing
	}
	return nil
}

func (a *API) permissionOperations() {
	register(a, spec{
		id: "get-permissions", method: http.MethodGet, read: true, path: "/accounts/{account}/members/{member}/permissions", tag: tagMembers,
		summary: "Show what a member may do on one resource, and why",
		scope:   policies.ScopeCollaboration, who: whoMembers,
		right: "itself, or with users.collaboration.GetMemberResources on the account, or users.collaboration.GetMembers on the resource.",
	}, a.getPermissions)
}
