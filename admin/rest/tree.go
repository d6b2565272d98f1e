package rest

import (
	"context"
	"errors"
	"net/http"

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
		scope: policies.ScopeResources, who: whoOwner,
	}, a.getTree)
}

var errTorn = errors.New("the tree changed while it was read")

func (a *API) getTree(ctx context.Context, _ *request, p *AccountPath, _ *none) (*shown[treeView], error) {
	for range treeTries {
		view, err := a.readTree(ctx, p.Account)
		if errors.Is(err, errTorn) {
			continue
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
		list, err := a.store.ListGroups(ctx, owner, page)
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
		list, err := a.store.ListEnvironments(ctx, owner, page)
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
