package difference

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// touched is what the objects of a change say about one owner.
type touched struct {
	members      map[policies.CollaborationID]bool
	grants       map[policies.CollaborationID][]policies.Resource
	roles        map[policies.RoleID]bool
	groups       []policies.GroupID
	environments []policies.EnvironmentID
	// meaning says that the same grants may give something else than before: a role
	// or a policy is touched.
	meaning bool
}

func touchedOf(owner policies.AccountID, c Change) touched {
	t := touched{
		members: map[policies.CollaborationID]bool{}, grants: map[policies.CollaborationID][]policies.Resource{},
		roles: map[policies.RoleID]bool{}, meaning: c.Before.Policy() != c.After.Policy(),
	}
	for _, o := range c.Objects {
		if o.Owner != owner {
			continue
		}
		switch o.Kind {
		case policies.KindMember:
			t.members[policies.CollaborationID(o.ID)] = true
		case policies.KindGrant:
			if key, err := policies.ParseGrantKey(o.ID); err == nil { // who made the states could read it
				t.grants[key.Member] = append(t.grants[key.Member], key.Resource)
			}
		case policies.KindRole:
			t.meaning = true
			if id := policies.RoleID(o.ID); !samePolicies(owner, id, c) {
				t.roles[id] = true
			}
		case policies.KindPolicy:
			t.meaning = true
			for _, state := range []*authz.State{c.Before, c.After} {
				if account, ok := state.Account(owner); ok {
					for _, role := range account.RolesUsing(policies.PolicyID(o.ID)) {
						t.roles[role] = true
					}
				}
			}
		case policies.KindGroup:
			t.groups = append(t.groups, policies.GroupID(o.ID))
		case policies.KindEnvironment:
			t.environments = append(t.environments, policies.EnvironmentID(o.ID))
		default: // no grant rests on it
		}
	}
	return t
}

// samePolicies tells whether a role has the same policies before and after: a change
// of its name then touches nobody.
func samePolicies(owner policies.AccountID, role policies.RoleID, c Change) bool {
	before, ok := c.Before.Account(owner)
	if !ok {
		return false
	}
	after, ok := c.After.Account(owner)
	if !ok {
		return false
	}
	had, there := before.RolePolicies(role)
	has, still := after.RolePolicies(role)
	return there && still && slices.Equal(had, has)
}

// members are those to look at, in order: all of the owner's where what is touched
// does not name them.
func (c *comparison) members() []policies.CollaborationID {
	ids := map[policies.CollaborationID]bool{}
	if len(c.touched.roles)+len(c.touched.groups)+len(c.touched.environments) > 0 {
		for _, s := range []*side{&c.before, &c.after} {
			if s.account != nil {
				for m := range s.account.Members() {
					ids[m.ID()] = true
				}
			}
		}
	}
	maps.Copy(ids, c.touched.members)
	for id := range c.touched.grants {
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// resources are those on which a member's actions can differ, in order.
func (c *comparison) resources(id policies.CollaborationID) ([]policies.Resource, error) {
	set := map[policies.Resource]bool{}
	for _, s := range []*side{&c.before, &c.after} {
		for _, r := range c.touched.grants[id] {
			s.below(r, set)
		}
		if m, ok := s.member(id); ok {
			c.granted(s, m, set)
			c.placed(s, m, set)
		}
	}
	if *c.left -= len(set); *c.left < 0 {
		return nil, &LimitError{Limit: c.Limit}
	}
	return slices.SortedFunc(maps.Keys(set), policies.CompareResources), nil
}

// granted adds what grants of a member reach that are touched with it, or by a role.
func (c *comparison) granted(s *side, m authz.Member, set map[policies.Resource]bool) {
	whole := c.touched.members[m.ID()]
	if !whole && len(c.touched.roles) == 0 {
		return
	}
	for g := range m.Grants() {
		if whole || slices.ContainsFunc(g.Roles, func(role policies.RoleID) bool { return c.touched.roles[role] }) {
			s.below(g.Resource, set)
		}
	}
}

// placed adds environments and groups that are touched, where the member has grants
// that can count.
func (c *comparison) placed(s *side, m authz.Member, set map[policies.Resource]bool) {
	for _, e := range c.touched.environments {
		r := policies.Resource{Type: policies.TypeEnvironment, ID: string(e)}
		if s.Reaches(m, r) {
			set[r] = true
		}
	}
	for _, g := range c.touched.groups {
		if c.above(s, m, g) {
			for _, either := range []*side{&c.before, &c.after} {
				either.below(policies.Resource{Type: policies.TypeGroup, ID: string(g)}, set)
			}
		}
	}
}

// above tells whether a member has a grant above a group, so that the group's place
// may matter to it. The category stands above every group, before and after, and
// matters only where the group is made or removed.
func (c *comparison) above(s *side, m authz.Member, id policies.GroupID) bool {
	group := policies.Resource{Type: policies.TypeGroup, ID: string(id)}
	if s.account == nil || !s.account.Has(group) {
		return false
	}
	if !c.before.hasGroup(group) || !c.after.hasGroup(group) {
		return s.Reaches(m, group)
	}
	for _, above := range s.ancestors(id) {
		if _, ok := m.Grant(policies.Resource{Type: policies.TypeGroup, ID: string(above)}); ok {
			return true
		}
	}
	return false
}

// side is the state before or after.
type side struct {
	*Asker

	tree *tree // made when it is needed
}

// tree is what stands directly in each group.
type tree struct {
	groups       map[policies.GroupID][]policies.GroupID
	environments map[policies.GroupID][]policies.EnvironmentID
}

func (s *side) hasGroup(r policies.Resource) bool { return s.account != nil && s.account.Has(r) }

func (s *side) member(id policies.CollaborationID) (authz.Member, bool) {
	if s.account == nil {
		return authz.Member{}, false
	}
	return s.account.Member(id)
}

func (s *side) ends(now time.Time, id policies.CollaborationID, r policies.Resource) []time.Time {
	m, ok := s.member(id)
	if !ok {
		return nil
	}
	return s.Ends(now, m, r)
}

func (s *side) holds(
	ctx context.Context, at time.Time, id policies.CollaborationID, as func(authz.Member) policies.Status, r policies.Resource,
) (*answer, error) {
	m, ok := s.member(id)
	if !ok {
		return nothing, nil
	}
	return s.ask(ctx, at, as(m), r, m.Grant)
}

// below adds a resource, and those on which a grant on it can count.
func (s *side) below(r policies.Resource, into map[policies.Resource]bool) {
	if s.account == nil || !s.account.Has(r) {
		return
	}
	into[r] = true
	switch r.Type {
	case policies.TypeGroup:
		s.inGroup(policies.GroupID(r.ID), into)
	case policies.TypeGroups:
		for g := range s.account.Groups() {
			into[policies.Resource{Type: policies.TypeGroup, ID: string(g)}] = true
		}
		for e, groups := range s.account.Environments() {
			if len(groups) > 0 {
				into[policies.Resource{Type: policies.TypeEnvironment, ID: string(e)}] = true
			}
		}
	case policies.TypeEnvironments:
		for e := range s.account.Environments() {
			into[policies.Resource{Type: policies.TypeEnvironment, ID: string(e)}] = true
		}
	default:
	}
}

func (s *side) inGroup(id policies.GroupID, into map[policies.Resource]bool) {
	if s.tree == nil {
		s.tree = &tree{map[policies.GroupID][]policies.GroupID{}, map[policies.GroupID][]policies.EnvironmentID{}}
		for g, parent := range s.account.Groups() {
			s.tree.groups[parent] = append(s.tree.groups[parent], g)
		}
		for e, groups := range s.account.Environments() {
			for _, g := range groups {
				s.tree.environments[g] = append(s.tree.environments[g], e)
			}
		}
	}
	for _, e := range s.tree.environments[id] {
		into[policies.Resource{Type: policies.TypeEnvironment, ID: string(e)}] = true
	}
	for _, g := range s.tree.groups[id] {
		into[policies.Resource{Type: policies.TypeGroup, ID: string(g)}] = true
		s.inGroup(g, into)
	}
}
