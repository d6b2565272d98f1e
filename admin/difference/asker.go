package difference

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Actions is a sorted set. Do not change it.
type Actions []policies.ActionName

// Has tells whether all of others are in a.
func (a Actions) Has(others Actions) bool {
	for _, name := range others {
		if _, found := slices.BinarySearch(a, name); !found {
			return false
		}
	}
	return true
}

// without are those of a that are not in b.
func (a Actions) without(b Actions) Actions {
	var rest Actions
	for _, name := range a {
		if _, found := slices.BinarySearch(b, name); !found {
			rest = append(rest, name)
		}
	}
	return rest
}

// Asker asks Rego what grants give at one owner, in one state, and keeps the answers
// by shape. It is for one goroutine.
type Asker struct {
	state   *authz.State
	account *authz.Account // nil: there is no such owner
	owner   policies.AccountID
	above   map[policies.GroupID][]policies.GroupID
	answers map[string]*answer
	shapes  *Shapes // nil: nobody comes after
	key     []byte  // of the question at hand
	numbers []policies.GroupID
}

// answer is what Rego said about a shape: a pointer, so that equal ones are told
// apart from others at a glance.
type answer struct {
	actions Actions
	roles   []string // names of those that count
}

var nothing = &answer{}

// NewAsker asks about what owner shares in a state.
func NewAsker(state *authz.State, owner policies.AccountID) *Asker {
	a := &Asker{state: state, owner: owner, above: map[policies.GroupID][]policies.GroupID{}, answers: map[string]*answer{}}
	a.account, _ = state.Account(owner)
	return a
}

// Actions is what a member in this status would be allowed on a resource at a time,
// by these grants alone.
func (a *Asker) Actions(
	ctx context.Context, at time.Time, status policies.Status, grants []policies.Grant, resource policies.Resource,
) (Actions, error) {
	found, err := a.ask(ctx, at, status, resource, func(r policies.Resource) (policies.Grant, bool) {
		for _, g := range grants {
			if g.Resource == r {
				return g, true
			}
		}
		return policies.Grant{}, false
	})
	return found.actions, err
}

// Member is what a record allows on a resource at a time, if it had this status.
func (a *Asker) Member(ctx context.Context, at time.Time, m authz.Member, status policies.Status, resource policies.Resource) (Actions, error) {
	found, err := a.ask(ctx, at, status, resource, m.Grant)
	return found.actions, err
}

// Roles are the names of the roles that count for an active member with these grants
// on a resource.
func (a *Asker) Roles(ctx context.Context, at time.Time, grant func(policies.Resource) (policies.Grant, bool), resource policies.Resource) ([]string, error) {
	found, err := a.ask(ctx, at, policies.StatusActive, resource, grant)
	return found.roles, err
}

// Shared tells whether anything on a resource is shared with a member: whether a role
// counts for it there.
func (a *Asker) Shared(ctx context.Context, at time.Time, m authz.Member, resource policies.Resource) (bool, error) {
	if m.Status() != policies.StatusActive {
		return false, nil
	}
	roles, err := a.Roles(ctx, at, m.Grant, resource)
	return len(roles) > 0, err
}

// Ends are when the grants of a record end, after now, that can count on a resource.
func (a *Asker) Ends(now time.Time, m authz.Member, resource policies.Resource) []time.Time {
	var ends []time.Time
	a.places(resource, func(r policies.Resource, _ int) {
		if g, ok := m.Grant(r); ok && g.ExpiresAt != nil && now.Before(*g.ExpiresAt) {
			ends = append(ends, *g.ExpiresAt)
		}
	})
	return ends
}

// Places are the resources on which a grant can count for the question about one, that
// one included; none if it is not there.
func (a *Asker) Places(resource policies.Resource) []policies.Resource {
	var places []policies.Resource
	a.places(resource, func(r policies.Resource, _ int) {
		if !slices.Contains(places, r) {
			places = append(places, r)
		}
	})
	return places
}

// Reaches tells whether the record has a grant that can count on a resource.
func (a *Asker) Reaches(m authz.Member, resource policies.Resource) (found bool) {
	a.places(resource, func(r policies.Resource, _ int) {
		if !found {
			_, found = m.Grant(r)
		}
	})
	return found
}

func (a *Asker) has(r policies.Resource) bool {
	return r.ID == authz.Supposed || a.account.Has(r)
}

// places calls visit for each resource on which a grant is read for the question
// about one, always in the same order, with a number that stands for its id. A
// category's number is 0.
func (a *Asker) places(resource policies.Resource, visit func(r policies.Resource, number int)) {
	if a.account == nil || !a.has(resource) {
		return
	}
	var groups []policies.GroupID
	a.numbers = a.numbers[:0]
	switch resource.Type {
	case policies.TypeEnvironment:
		visit(resource, 1)
		groups, _ = a.account.GroupsOf(policies.EnvironmentID(resource.ID))
	case policies.TypeGroup:
		groups = []policies.GroupID{policies.GroupID(resource.ID)}
	default:
		visit(resource, 0)
		return
	}
	for _, g := range groups {
		visit(policies.Resource{Type: policies.TypeGroup, ID: string(g)}, a.number(g))
		for _, above := range a.ancestors(g) {
			visit(policies.Resource{Type: policies.TypeGroup, ID: string(above)}, a.number(above))
		}
		visit(policies.Resource{Type: policies.TypeGroups, ID: string(a.owner)}, 0)
	}
	if resource.Type == policies.TypeEnvironment {
		visit(policies.Resource{Type: policies.TypeEnvironments, ID: string(a.owner)}, 0)
	}
}

// number is the place at which a group was met first.
func (a *Asker) number(g policies.GroupID) int {
	if at := slices.Index(a.numbers, g); at >= 0 {
		return at + 1
	}
	a.numbers = append(a.numbers, g)
	return len(a.numbers)
}

func (a *Asker) ancestors(g policies.GroupID) []policies.GroupID {
	above, ok := a.above[g]
	if !ok {
		above = a.account.Ancestors(g)
		a.above[g] = above
	}
	return above
}

// ask is the answer for a resource of which grant gives the grants.
func (a *Asker) ask(
	ctx context.Context, at time.Time, status policies.Status, resource policies.Resource,
	grant func(policies.Resource) (policies.Grant, bool),
) (*answer, error) {
	if a.account == nil || !a.has(resource) {
		return nothing, nil
	}
	grants := a.shape(at, status, resource, grant)
	if found, ok := a.answers[string(a.key)]; ok {
		return found, nil
	}
	at, view := a.suppose(at, status, grants)
	found, err := a.state.Policy().Effective(ctx, view, at, authz.Supposed, resource)
	if err != nil {
		return nothing, err
	}
	made := &answer{roles: found.Roles}
	for _, p := range found.Policies {
		made.actions = append(made.actions, p.Actions...)
	}
	slices.Sort(made.actions)
	made.actions = slices.Compact(made.actions)
	a.answers[string(a.key)] = made
	return made, nil
}

// shape makes the key of the question at hand, and gives the grants that can count for
// it. Of the time it says which of them have ended.
func (a *Asker) shape(
	at time.Time, status policies.Status, resource policies.Resource, grant func(policies.Resource) (policies.Grant, bool),
) (grants []policies.Grant) {
	a.key = append(append(a.key[:0], resource.Type...), '|')
	a.key = append(append(a.key, status...), '|')
	a.places(resource, func(r policies.Resource, number int) {
		a.key = append(append(strconv.AppendInt(a.key, int64(number), 10), r.Type...), ':')
		g, ok := grant(r)
		if !ok {
			return
		}
		a.key = append(a.key, '=')
		for _, role := range g.Roles {
			a.key = append(append(a.key, role...), ',')
		}
		if g.ExpiresAt != nil {
			a.key = strconv.AppendInt(append(a.key, '<'), g.ExpiresAt.UnixMicro(), 10)
			a.key = strconv.AppendBool(append(a.key, '@'), at.Before(*g.ExpiresAt))
		}
		if !slices.ContainsFunc(grants, func(have policies.Grant) bool { return have.Resource == r }) {
			grants = append(grants, g)
		}
	})
	return grants
}

// suppose is the state with a member that has just these grants, and the time to ask
// at.
func (a *Asker) suppose(at time.Time, status policies.Status, grants []policies.Grant) (time.Time, authz.View) {
	at, grants = onClock(at, grants)
	return at, authz.Suppose(a.state, authz.Supposition{Owner: a.owner, Status: status, Grants: grants})
}

// lastTick is what OPA's clock, nanoseconds in 64 bits, can show with room after it.
var lastTick = time.Date(2261, 1, 1, 0, 0, 0, 0, time.UTC)

// onClock moves a time that OPA's clock cannot show to one that it can, and the ends
// of grants with it, so that what comes after what stays the same.
func onClock(at time.Time, grants []policies.Grant) (time.Time, []policies.Grant) {
	if !at.After(lastTick) {
		return at, grants
	}
	moved := slices.Clone(grants)
	for i, g := range moved {
		switch {
		case g.ExpiresAt == nil || !g.ExpiresAt.After(lastTick):
		case g.ExpiresAt.After(at):
			later := lastTick.Add(time.Hour)
			moved[i].ExpiresAt = &later
		default:
			moved[i].ExpiresAt = &lastTick
		}
	}
	return lastTick, moved
}
