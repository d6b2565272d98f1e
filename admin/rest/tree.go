package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// treeTries is how often the tree is read anew when it changes between its
// pages.
const treeTries = 5

type treeEnvironment struct {
	ID   policies.EnvironmentID `json:"id"`
	Name string                 `json:"name"`
}

type treeGroup struct {
	ID           policies.GroupID  `json:"id"`
	Name         string            `json:"name"`
	Color        string            `json:"color"`
	Groups       []*treeGroup      `json:"groups" doc:"The groups in it."`
	Environments []treeEnvironment `json:"environments" doc:"The environments in it; one may stand in several groups."`
}

type treeView struct {
	Account      policies.AccountID `json:"account"`
	Groups       []*treeGroup       `json:"groups" doc:"The groups at the root."`
	Environments []treeEnvironment  `json:"environments" doc:"The environments in no group."`
}

func (a *API) treeOperations() {
	register(a, spec{
		id: "get-tree", method: http.MethodGet, path: "/accounts/{account}/tree", tag: tagGroups, summary: "Show groups and environments as a tree",
		scope: policies.ScopeResources, who: whoMembers, right: "what is shared with it.",
	}, a.getTree)
}

var errTorn = errors.New("the tree changed while it was read")

func (a *API) getTree(ctx context.Context, r *request, p *AccountPath, _ *none) (*shown[treeView], error) {
	sees, err := a.sightOf(ctx, r, p.Account)
	if err != nil {
		return nil, err
	}
	for range treeTries {
		view, err := a.readTree(ctx, p.Account)
		if errors.Is(err, errTorn) {
			continue
		}
		if err == nil && !sees.everything() {
			err = sees.prune(ctx, view)
		}
		if err != nil {
			return nil, err
		}
		return show("", *view), nil
	}
	return nil, &store.UnavailableError{Err: errTorn}
}

func (a *API) readTree(ctx context.Context, owner policies.AccountID) (*treeView, error) {
	view := &treeView{Account: owner, Groups: []*treeGroup{}, Environments: []treeEnvironment{}}
	groups := map[policies.GroupID]*treeGroup{}
	var order []policies.Group
	err := everyPage(func(page store.Page) (string, error) {
		list, err := a.store.ListGroups(ctx, owner, nil, page)
		for _, item := range list.Items {
			g := item.Value
			groups[g.ID] = &treeGroup{ID: g.ID, Name: g.Name, Color: g.Color, Groups: []*treeGroup{}, Environments: []treeEnvironment{}}
			order = append(order, g)
		}
		return list.NextCursor, err
	})
	if err != nil {
		return nil, err
	}
	for _, g := range order {
		switch parent, ok := groups[value(g.Parent)]; {
		case g.Parent == nil:
			view.Groups = append(view.Groups, groups[g.ID])
		case ok:
			parent.Groups = append(parent.Groups, groups[g.ID])
		default:
			return nil, errTorn
		}
	}
	return view, everyPage(func(page store.Page) (string, error) {
		list, err := a.store.ListEnvironments(ctx, owner, nil, page)
		for _, item := range list.Items {
			e := treeEnvironment{ID: item.Value.ID, Name: item.Value.Name}
			if len(item.Value.Groups) == 0 {
				view.Environments = append(view.Environments, e)
			}
			for _, id := range item.Value.Groups {
				group, ok := groups[id]
				if !ok {
					return "", errTorn
				}
				group.Environments = append(group.Environments, e)
			}
		}
		return list.NextCursor, err
	})
}

// prune leaves what is shared with a member. What stands in a group that is not comes
// up to where the group stood.
func (s *sight) prune(ctx context.Context, view *treeView) error {
	groups, environments, err := pruned(ctx, view.Groups, view.Environments, s.shares)
	view.Groups, view.Environments = groups, environments
	return err
}

func pruned(
	ctx context.Context, groups []*treeGroup, environments []treeEnvironment, shared func(context.Context, policies.Resource) (bool, error),
) (keptGroups []*treeGroup, keptEnvironments []treeEnvironment, err error) {
	keptGroups, keptEnvironments = []*treeGroup{}, []treeEnvironment{}
	for _, e := range environments {
		ok, err := shared(ctx, policies.Resource{Type: policies.TypeEnvironment, ID: string(e.ID)})
		if err != nil {
			return nil, nil, err
		}
		if ok {
			keptEnvironments = append(keptEnvironments, e)
		}
	}
	for _, g := range groups {
		ok, err := shared(ctx, policies.Resource{Type: policies.TypeGroup, ID: string(g.ID)})
		if err != nil {
			return nil, nil, err
		}
		below, inside, err := pruned(ctx, g.Groups, g.Environments, shared)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			g.Groups, g.Environments = below, inside
			keptGroups = append(keptGroups, g)
			continue
		}
		keptGroups = append(keptGroups, below...)
		for _, e := range inside {
			if !slices.Contains(keptEnvironments, e) {
				keptEnvironments = append(keptEnvironments, e)
			}
		}
	}
	return keptGroups, keptEnvironments, nil
}
