package authz

import (
	"context"
	"fmt"
	"iter"

	"github.com/usher-authz/usher/policies"
)

// BundleState is the state that a bundle holds; reuse is a policy that it may have, or
// nil. The error says what of the bundle contradicts what.
func BundleState(ctx context.Context, contents *policies.BundleContents, reuse *Policy) (*State, error) {
	b := NewBuilder(Header{Platform: contents.PlatformID(), Revision: contents.Revision()})
	b.Reuse(reuse)
	for object, err := range contents.Objects() {
		if err == nil {
			err = b.Add(object)
		}
		if err != nil {
			return nil, fmt.Errorf("build the state of the bundle: %w", err)
		}
	}
	state, err := b.Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("build the state of the bundle: %w", err)
	}
	return state, nil
}

// PlatformData is the state as the bundle compiler reads it. Each account's data
// are made when they are asked for, so that a bundle of a large platform needs the
// memory of one account.
func (s *State) PlatformData() policies.PlatformData { return platformData{s} }

type platformData struct{ state *State }

// Revision implements policies.PlatformData.
func (p platformData) Revision() policies.Revision { return p.state.Revision() }

// PlatformID implements policies.PlatformData.
func (p platformData) PlatformID() string { return p.state.Platform() }

// Policy implements policies.PlatformData.
func (p platformData) Policy() *policies.PolicyInForce { return p.state.policy.Source() }

// Subjects implements policies.PlatformData.
func (p platformData) Subjects() iter.Seq[policies.AccountID] { return p.state.AccountIDs() }

// Accounts implements policies.PlatformData.
func (p platformData) Accounts() iter.Seq2[policies.AccountID, *policies.AccountData] {
	return func(yield func(policies.AccountID, *policies.AccountData) bool) {
		for id, a := range p.state.accounts.all() {
			if !yield(id, a.Data()) {
				return
			}
		}
	}
}

// Data is the account as Rego reads it, data.usher.accounts[owner], for bundles.
// It says the same as viewStore does piece by piece.
func (a *Account) Data() *policies.AccountData {
	data := &policies.AccountData{
		Actions:      policies.Set[policies.ActionName]{},
		Groups:       make(map[policies.GroupID]policies.GroupData, a.groups.len()),
		Environments: make(map[policies.EnvironmentID]policies.EnvironmentData, a.environments.len()),
		Policies:     make(map[policies.PolicyID]policies.PolicyData, a.own().policies.len()),
		Roles:        make(map[policies.RoleID]policies.RoleData, a.roles.len()),
		Members:      make(map[policies.AccountID]policies.MemberData, a.subjects.len()),
	}
	for name := range a.own().actions.all() {
		data.Actions[name] = true
	}
	for id := range a.groups.all() {
		data.Groups[id] = policies.GroupData{Ancestors: a.ancestors(id)}
	}
	for id, e := range a.environments.all() {
		data.Environments[id] = policies.EnvironmentData{Groups: e.groups}
	}
	for id, p := range a.own().policies.all() {
		data.Policies[id] = policies.PolicyData{Resources: setOf(p.resources), Actions: setOf(p.actions)}
	}
	for id, r := range a.roles.all() {
		data.Roles[id] = policies.RoleData{Name: r.name, Policies: r.policies, ReceiveLoadAlerts: r.receiveLoadAlerts}
	}
	for id, m := range a.subjects.all() {
		data.Members[id] = policies.MemberData{ID: m.id.string(), Status: m.mark.status(), Grants: a.grantData(m)}
	}
	return data
}

func (a *Account) grantData(m *member) map[policies.ResourceType]map[string]policies.GrantData {
	types := map[policies.ResourceType]map[string]policies.GrantData{}
	m.grants.each(a.ID(), func(r policies.Resource, g *grant) bool {
		if types[r.Type] == nil {
			types[r.Type] = map[string]policies.GrantData{}
		}
		types[r.Type][r.ID] = policies.NewGrantData(g.roles, g.ends)
		return true
	})
	return types
}

func setOf[K comparable](list []K) policies.Set[K] {
	set := make(policies.Set[K], len(list))
	for _, k := range list {
		set[k] = true
	}
	return set
}
