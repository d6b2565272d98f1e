package authz

import (
	"iter"

	"github.com/usher-authz/usher/policies"
)

// What an account holds, for those who must know what a change can touch. None of
// it decides anything: what a grant gives, Rego tells.

// Member is a record of an account. It does not change.
type Member struct {
	owner policies.AccountID
	m     *member
}

// ID is the collaboration's.
func (m Member) ID() policies.CollaborationID { return m.m.id.string() }

// Account is the member's; empty while no account has the address.
func (m Member) Account() policies.AccountID { return m.m.account.string() }

// Status is the collaboration's.
func (m Member) Status() policies.Status { return m.m.mark.status() }

// Grant finds the grant on one resource, whether or not it has ended. The roles are
// shared with the state: do not change them.
func (m Member) Grant(r policies.Resource) (policies.Grant, bool) {
	g, ok := m.m.grants.get(m.owner, r)
	if !ok {
		return policies.Grant{}, false
	}
	return policies.Grant{Resource: r, Roles: g.roles, ExpiresAt: g.ends}, true
}

// Grants are all, in the order of types and ids, those that have ended too.
func (m Member) Grants() iter.Seq[policies.Grant] {
	return func(yield func(policies.Grant) bool) {
		m.m.grants.each(m.owner, func(r policies.Resource, g *grant) bool {
			return yield(policies.Grant{Resource: r, Roles: g.roles, ExpiresAt: g.ends})
		})
	}
}

// Member finds a record by the collaboration's id.
func (a *Account) Member(id policies.CollaborationID) (Member, bool) {
	m, ok := a.members.get(id)
	return Member{a.ID(), m}, ok
}

// MemberOf finds the record of an account.
func (a *Account) MemberOf(account policies.AccountID) (Member, bool) {
	m, ok := a.subjects.get(account)
	return Member{a.ID(), m}, ok
}

// Members are all records, in the order of ids, ended ones too.
func (a *Account) Members() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for _, m := range a.members.all() {
			if !yield(Member{a.ID(), m}) {
				return
			}
		}
	}
}

// Has tells whether the resource is one of this account's.
func (a *Account) Has(r policies.Resource) bool { return a.has(r) }

// Ancestors are the groups above one, nearest first.
func (a *Account) Ancestors(id policies.GroupID) []policies.GroupID { return a.ancestors(id) }

// GroupsOf are the groups that an environment stands in; false if there is no such
// environment. Do not change them.
func (a *Account) GroupsOf(id policies.EnvironmentID) ([]policies.GroupID, bool) {
	e, ok := a.environments.get(id)
	if !ok {
		return nil, false
	}
	return e.groups, true
}

// Groups are all groups, with the parent of each (empty at the root), in the order
// of ids.
func (a *Account) Groups() iter.Seq2[policies.GroupID, policies.GroupID] {
	return func(yield func(policies.GroupID, policies.GroupID) bool) {
		for id, parent := range a.groups.all() {
			if !yield(id, parent.string()) {
				return
			}
		}
	}
}

// Environments are all environments, with the groups that each stands in, in the
// order of ids.
func (a *Account) Environments() iter.Seq2[policies.EnvironmentID, []policies.GroupID] {
	return func(yield func(policies.EnvironmentID, []policies.GroupID) bool) {
		for id, e := range a.environments.all() {
			if !yield(id, e.groups) {
				return
			}
		}
	}
}

// RoleNamed finds a role by its name, which is unique in the account.
func (a *Account) RoleNamed(name string) (policies.RoleID, bool) {
	for id, r := range a.roles.all() {
		if r.name == name {
			return id, true
		}
	}
	return "", false
}

// MeansAs tells whether roles and custom policies are those of other, and nothing was
// changed in them from one to the other: the same grants then give the same.
func (a *Account) MeansAs(other *Account) bool {
	return a.roles.is(other.roles) && a.own().policies.is(other.own().policies)
}

// RolesUsing are the roles that have a policy.
func (a *Account) RolesUsing(policy policies.PolicyID) []policies.RoleID {
	var using []policies.RoleID
	for id, r := range a.roles.all() {
		for _, have := range r.policies {
			if have == policy {
				using = append(using, id)
			}
		}
	}
	return using
}

// RolePolicies are the policies that a role has; false if there is no such role. Do
// not change them.
func (a *Account) RolePolicies(id policies.RoleID) ([]policies.PolicyID, bool) {
	found, ok := a.roles.get(id)
	if !ok {
		return nil, false
	}
	return found.policies, true
}
