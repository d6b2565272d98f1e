package authz

import (
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Account is one owner's account: groups, environments, custom policies, roles,
// members with their grants. It is immutable; the next one shares with it what
// the change between them did not touch.
type Account struct {
	id      text[policies.AccountID]
	changed policies.Revision // the last that touched anything here
	// all is the last revision that touched something on which any result at this
	// owner may rest: see the table in doc.go.
	all policies.Revision

	groups       table[policies.GroupID, text[policies.GroupID]] // the parent of each, empty at the root
	environments table[policies.EnvironmentID, *environment]
	roles        table[policies.RoleID, *role]
	members      table[policies.CollaborationID, *member]
	// subjects finds the member record of an account. Records without an account
	// (nobody has the address yet) are in members only.
	subjects table[policies.AccountID, *member]
	// custom is nil for the many who have none.
	custom *custom
}

// What an account is made of. Values are shared between revisions, and by all that
// are alike: never write to one that was published.
type (
	custom struct {
		policies table[policies.PolicyID, *customPolicy]
		// actions counts the custom policies that name an action.
		actions table[policies.ActionName, int]
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
		id      text[policies.CollaborationID]
		account text[policies.AccountID] // empty while no account has the address
		mark    mark
		grants  grants
	}

	grant struct {
		roles []policies.RoleID
		ends  *time.Time // nil: never
	}
)

// mark is the last revision that touched a member's record or its grants, and above
// its bits the status, as its place in policies.Statuses: with a word for each, a
// member would take 128 bytes instead of 112.
type mark uint64

const revisionBits = 56 // policies.MaxRevision has fewer

func newMark(changed policies.Revision, status policies.Status) (m mark, known bool) {
	at := slices.Index(policies.Statuses, status)
	return mark(changed) | mark(max(at, 0))<<revisionBits, at >= 0
}

func (m mark) changed() policies.Revision { return policies.Revision(m & (1<<revisionBits - 1)) }

func (m mark) status() policies.Status { return policies.Statuses[m>>revisionBits] }

// at is m with another revision.
func (m mark) at(changed policies.Revision) mark { return m&^(1<<revisionBits-1) | mark(changed) }

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

// none tells whether there are no grants at all.
func (g *grants) none() bool {
	return g.environments.len() == 0 && g.groups.len() == 0 && g.categories == [3]*grant{}
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

// set puts a grant on a resource of a, and tells whether there was none.
func (g *grants) set(a *Account, r policies.Resource, to *grant) (added bool) {
	switch r.Type {
	case policies.TypeEnvironment:
		return g.environments.set(a.environments.text(policies.EnvironmentID(r.ID)), to)
	case policies.TypeGroup:
		return g.groups.set(a.groups.text(policies.GroupID(r.ID)), to)
	default:
		at := &g.categories[category(r.Type)]
		added = *at == nil
		*at = to
		return added
	}
}

// remove takes the grant on a resource away, if there is one.
func (g *grants) remove(r policies.Resource) {
	switch r.Type {
	case policies.TypeEnvironment:
		g.environments.remove(policies.EnvironmentID(r.ID))
	case policies.TypeGroup:
		g.groups.remove(policies.GroupID(r.ID))
	default:
		g.categories[category(r.Type)] = nil
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
func (a *Account) ID() policies.AccountID { return a.id.string() }

// Changed is the last revision that touched this account, as far as it is known:
// in a state that was built from a snapshot, the snapshot's at the earliest.
func (a *Account) Changed() policies.Revision { return a.changed }

// KnowsAction tells whether a custom policy of this account names the action.
func (a *Account) KnowsAction(name policies.ActionName) bool {
	_, ok := a.own().actions.get(name)
	return ok
}

// own are the account's own policies, to read.
func (a *Account) own() custom {
	if a.custom == nil {
		return custom{}
	}
	return *a.custom
}

// ancestors are the groups above id, nearest first. They end where a parent is
// missing.
func (a *Account) ancestors(id policies.GroupID) []policies.GroupID {
	var above []policies.GroupID
	at, ok := a.groups.get(id)
	for ok && at.string() != "" {
		parent := at.string()
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
		return r.Type.IsCategory() && r.ID == string(a.ID())
	}
}

// fork gives an account to edit, while others read a.
func (a *Account) fork() *Account {
	forked := &Account{
		id: a.id, changed: a.changed, all: a.all, groups: a.groups.fork(), environments: a.environments.fork(),
		roles: a.roles.fork(), members: a.members.fork(), subjects: a.subjects.fork(),
	}
	if a.custom != nil {
		forked.custom = &custom{policies: a.custom.policies.fork(), actions: a.custom.actions.fork()}
	}
	return forked
}
