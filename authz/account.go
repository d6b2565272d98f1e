package authz

import (
	"time"

	"github.com/usher-authz/usher/policies"
)

// Account is one owner's account: groups, environments, custom policies, roles,
// members with their grants. It is immutable; the next one shares with it what
// the change between them did not touch.
type Account struct {
	id policies.AccountID
	// owns is the id again, where the platform's tables of environments and groups
	// lead to: a pointer each, for all revisions.
	owns    *policies.AccountID
	changed policies.Revision // the last that touched anything here
	// all is the last revision that touched something on which any result at this
	// owner may rest: see the table in doc.go.
	all policies.Revision

	groups       table[policies.GroupID, *group]
	environments table[policies.EnvironmentID, *environment]
	policies     table[policies.PolicyID, *customPolicy]
	roles        table[policies.RoleID, *role]
	members      table[policies.CollaborationID, *member]
	// subjects finds the member record of an account. Records without an account
	// (nobody has the address yet) are in members only.
	subjects table[policies.AccountID, *member]
	// actions counts the custom policies that name an action.
	actions table[policies.ActionName, int]
}

// What an account is made of. Values are shared between revisions, and by all that
// are alike: never write to one that was published.
type (
	group struct {
		parent policies.GroupID // empty at the root
	}

	environment struct {
		groups []policies.GroupID
		// changed is the last revision that touched the environment itself.
		changed policies.Revision
	}

	customPolicy struct {
		resources []policies.ResourceType
		actions   []policies.ActionName
	}

	role struct {
		name              string
		policies          []policies.PolicyID
		receiveLoadAlerts bool
	}

	member struct {
		id      policies.CollaborationID
		account policies.AccountID // empty while no account has the address
		status  policies.Status
		grants  grants
		// changed is the last revision that touched the record or its grants.
		changed policies.Revision
	}

	grant struct {
		roles []policies.RoleID
		ends  *time.Time // nil: never
	}
)

// grants holds a member's grants by resource. Of each category there is one at
// most, since its id is the owner's.
type grants struct {
	environments table[policies.EnvironmentID, *grant]
	groups       table[policies.GroupID, *grant]
	categories   [3]*grant // environments, groups, account
}

// categoryTypes are the types of grants.categories.
var categoryTypes = [3]policies.ResourceType{policies.TypeEnvironments, policies.TypeGroups, policies.TypeAccount}

func category(t policies.ResourceType) int {
	switch t {
	case policies.TypeGroups:
		return 1
	case policies.TypeAccount:
		return 2
	default:
		return 0
	}
}

// get finds the grant on a resource of owner.
func (g *grants) get(owner policies.AccountID, r policies.Resource) (*grant, bool) {
	switch {
	case r.Type == policies.TypeEnvironment:
		return g.environments.get(policies.EnvironmentID(r.ID))
	case r.Type == policies.TypeGroup:
		return g.groups.get(policies.GroupID(r.ID))
	case r.Type.IsCategory() && r.ID == string(owner):
		found := g.categories[category(r.Type)]
		return found, found != nil
	}
	return nil, false
}

// set puts a grant, or removes it if it is nil.
func (g *grants) set(r policies.Resource, to *grant) {
	switch {
	case r.Type == policies.TypeEnvironment && to == nil:
		g.environments.remove(policies.EnvironmentID(r.ID))
	case r.Type == policies.TypeEnvironment:
		g.environments.set(policies.EnvironmentID(r.ID), to)
	case r.Type == policies.TypeGroup && to == nil:
		g.groups.remove(policies.GroupID(r.ID))
	case r.Type == policies.TypeGroup:
		g.groups.set(policies.GroupID(r.ID), to)
	default:
		g.categories[category(r.Type)] = to
	}
}

// each calls yield for every grant, in the order of types and ids, until it
// returns false.
func (g *grants) each(owner policies.AccountID, yield func(policies.Resource, *grant) bool) bool {
	for id, found := range g.environments.all() {
		if !yield(policies.Resource{Type: policies.TypeEnvironment, ID: string(id)}, found) {
			return false
		}
	}
	for id, found := range g.groups.all() {
		if !yield(policies.Resource{Type: policies.TypeGroup, ID: string(id)}, found) {
			return false
		}
	}
	for i, found := range g.categories {
		if found != nil && !yield(policies.Resource{Type: categoryTypes[i], ID: string(owner)}, found) {
			return false
		}
	}
	return true
}

func (g *grants) fork() grants {
	forked := *g
	forked.environments = g.environments.fork()
	forked.groups = g.groups.fork()
	return forked
}

// ID is the owner's.
func (a *Account) ID() policies.AccountID { return a.id }

// Changed is the last revision that touched this account, as far as it is known:
// in a state that was built from a snapshot, the snapshot's at the earliest.
func (a *Account) Changed() policies.Revision { return a.changed }

// KnowsAction tells whether a custom policy of this account names the action.
func (a *Account) KnowsAction(name policies.ActionName) bool {
	_, ok := a.actions.get(name)
	return ok
}

// ancestors are the groups above id, nearest first. They end where a parent is
// missing.
func (a *Account) ancestors(id policies.GroupID) []policies.GroupID {
	var above []policies.GroupID
	at, ok := a.groups.get(id)
	for ok && at.parent != "" {
		parent := at.parent
		if at, ok = a.groups.get(parent); ok {
			above = append(above, parent)
		}
	}
	return above
}

// has tells whether the resource is one of this account's.
func (a *Account) has(r policies.Resource) bool {
	switch r.Type {
	case policies.TypeEnvironment:
		_, ok := a.environments.get(policies.EnvironmentID(r.ID))
		return ok
	case policies.TypeGroup:
		_, ok := a.groups.get(policies.GroupID(r.ID))
		return ok
	default:
		return r.Type.IsCategory() && r.ID == string(a.id)
	}
}

// same is r with its id as the account has it.
func (a *Account) same(r policies.Resource) policies.Resource {
	switch r.Type {
	case policies.TypeEnvironment:
		r.ID = string(a.environments.same(policies.EnvironmentID(r.ID)))
	case policies.TypeGroup:
		r.ID = string(a.groups.same(policies.GroupID(r.ID)))
	default: // there is one of each, and its id is not kept
	}
	return r
}

// fork gives an account to edit, while others read a.
func (a *Account) fork() *Account {
	return &Account{
		id: a.id, owns: a.owns, changed: a.changed, all: a.all,
		groups: a.groups.fork(), environments: a.environments.fork(), policies: a.policies.fork(),
		roles: a.roles.fork(), members: a.members.fork(), subjects: a.subjects.fork(), actions: a.actions.fork(),
	}
}
