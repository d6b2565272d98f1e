package rest

import (
	"context"
	"net/http"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const (
	tagGroups    = "Groups"
	defaultColor = "#808080"
)

type groupPath struct {
	AccountPath

	Group policies.GroupID `path:"group" doc:"The group's id." example:"g-production"`
}

type groupView struct {
	ID     policies.GroupID  `json:"id"`
	Name   string            `json:"name"`
	Parent *policies.GroupID `json:"parent" nullable:"true" doc:"The group above; null at the root, and where it is not shared with the caller."`
	Color  string            `json:"color"`
	ETag   string            `json:"etag"`
}

func viewGroup(i store.Item[policies.Group]) groupView {
	return groupView{ID: i.Value.ID, Name: i.Value.Name, Parent: i.Value.Parent, Color: i.Value.Color, ETag: i.ETag}
}

type groupInput struct {
	Name   *string           `json:"name" minLength:"1" maxLength:"200" doc:"Unique among its siblings, compared without case." example:"Production"`
	Parent *policies.GroupID `json:"parent,omitzero" nullable:"true" doc:"The group above; null or absent is the root, or, for a member that does not see it, the one that it has."`
	Color  *string           `json:"color,omitzero" pattern:"^#[0-9A-Fa-f]{6}$" default:"#808080" example:"#2f81f7"`
}

func (b *groupInput) group(id policies.GroupID) policies.Group {
	g := policies.Group{ID: id, Name: value(b.Name), Parent: b.Parent, Color: defaultColor}
	if b.Color != nil {
		g.Color = *b.Color
	}
	return g
}

type groupsQuery struct {
	AccountPath
	PageQuery
}

func (a *API) groupOperations() {
	register(a, spec{
		id: "put-group", method: http.MethodPut, path: "/accounts/{account}/groups/{group}", tag: tagGroups, summary: "Make or change a group",
		scope: policies.ScopeResources, dryRun: true, who: whoMembers,
		right: "with environment.group.CreateGroup on the group that it comes into (or all groups), and " +
			"environment.group.EditGroup on the group if it is there.",
		also: []int{http.StatusCreated}, errors: []int{http.StatusConflict},
	}, a.putGroup)
	register(a, spec{
		id: "get-group", method: http.MethodGet, path: "/accounts/{account}/groups/{group}", tag: tagGroups, summary: "Show a group",
		scope: policies.ScopeResources, who: whoMembers, right: sharedRight,
	}, a.getGroup)
	register(a, spec{
		id: "delete-group", method: http.MethodDelete, path: "/accounts/{account}/groups/{group}", tag: tagGroups, summary: "Remove a group",
		description: "Its child groups and environments move to its parent (or the root); its grants disappear.",
		scope:       policies.ScopeResources, dryRun: true, who: whoMembers,
		right:  "with environment.group.RemoveGroup on the group.",
		status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, a.deleteGroup)
	register(a, spec{
		id: "list-groups", method: http.MethodGet, path: "/accounts/{account}/groups", tag: tagGroups, summary: "List the groups",
		scope: policies.ScopeResources, who: whoMembers, right: sharedRight, errors: []int{http.StatusUnprocessableEntity},
	}, a.listGroups)
}

func (a *API) putGroup(ctx context.Context, r *request, p *groupPath, b *groupInput) (*written[groupView], error) {
	result, err := a.store.PutGroup(ctx, r.caller.call(), p.Account, b.group(p.Group))
	if err != nil {
		return nil, err
	}
	return seenAfter(ctx, a, r, p.Account, wrote(a, r, result, viewGroup(itemOf(result))), (*sight).hideParent)
}

func (a *API) getGroup(ctx context.Context, r *request, p *groupPath, _ *none) (*shown[groupView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	if err := keptBy(ctx, sees.group, p.Group, "group"); err != nil {
		return nil, err
	}
	item, err := a.store.GetGroup(ctx, p.Account, p.Group)
	if err != nil {
		return nil, err
	}
	view := viewGroup(item)
	if err := sees.hideParent(ctx, &view); err != nil {
		return nil, err
	}
	return show(item.ETag, view), nil
}

// hideParent takes the group above away where it is not shared with the caller.
func (s *sight) hideParent(ctx context.Context, view *groupView) error {
	if view.Parent == nil {
		return nil
	}
	ok, err := s.group(ctx, *view.Parent)
	if !ok {
		view.Parent = nil
	}
	return err
}

func (a *API) deleteGroup(ctx context.Context, r *request, p *groupPath, _ *none) (*gone, error) {
	result, err := a.store.DeleteGroup(ctx, r.caller.call(), p.Account, p.Group)
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}

func (a *API) listGroups(ctx context.Context, r *request, p *groupsQuery, _ *none) (*listed[groupView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	items, err := a.store.ListGroups(ctx, p.Account, keepOf(sees, sees.group), page)
	if err != nil {
		return nil, err
	}
	return seenList(ctx, list(items, viewGroup), sees.hideParent)
}

// itemOf is what a write left, as reads give it.
func itemOf[T any](r store.Result[T]) store.Item[T] {
	return store.Item[T]{Value: r.Value, ETag: r.ETag, Revision: r.Revision}
}
