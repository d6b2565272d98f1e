package vectors

import (
	"cmp"
	"maps"
	"slices"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Coverage is which roles and policies there are, and which of them were exercised.
// The zero value has none.
type Coverage struct {
	roles, policies         map[part]bool // that there are
	seenRoles, seenPolicies map[part]bool // that stood in answers, custom policies or not with the owner
	owners                  map[policies.AccountID]bool
}

// part is a role, by name, or a policy, by id; system policies have no owner.
type part struct {
	owner policies.AccountID
	name  string
}

// Share is how much of something was exercised.
type Share struct {
	Exercised int   `json:"exercised"`
	Of        int   `json:"of"`
	Never     Parts `json:"never"` // sorted
}

// Parts are roles or policies.
type Parts []Part

// Part is a role, by its name, or a policy, by its id. A system policy has no owner.
type Part struct {
	Owner policies.AccountID `json:"owner,omitzero"`
	Name  string             `json:"name"`
}

func (p Part) String() string {
	if p.Owner == "" {
		return p.Name
	}
	return p.Name + " of " + string(p.Owner)
}

// Percent is 100 where there is nothing to exercise.
func (s Share) Percent() float64 {
	if s.Of == 0 {
		return 100
	}
	return 100 * float64(s.Exercised) / float64(s.Of)
}

// Add notes what a platform has, before or after what has exercised it.
func (c *Coverage) Add(platform policies.PlatformData) {
	if c.roles == nil {
		c.roles, c.policies = map[part]bool{}, map[part]bool{}
	}
	for owner, data := range platform.Accounts() {
		for id := range data.Policies {
			c.policies[part{owner, string(id)}] = true
		}
		for _, role := range data.Roles {
			c.roles[part{owner, role.Name}] = true
			for _, id := range role.Policies {
				if _, custom := data.Policies[id]; !custom {
					c.policies[part{"", string(id)}] = true
				}
			}
		}
	}
}

// exercised notes what stands in an answer.
func (c *Coverage) exercised(d *authz.Decision) {
	if c.seenRoles == nil {
		c.seenRoles, c.seenPolicies, c.owners = map[part]bool{}, map[part]bool{}, map[policies.AccountID]bool{}
	}
	if d.Owner != "" {
		c.owners[d.Owner] = true
	}
	for _, name := range d.Roles {
		c.seenRoles[part{d.Owner, name}] = true
	}
	for _, id := range d.Policies {
		c.seenPolicies[part{d.Owner, string(id)}] = true
	}
}

// Owners are those of the resources that were asked about, sorted.
func (c *Coverage) Owners() []policies.AccountID { return slices.Sorted(maps.Keys(c.owners)) }

// Roles is how many of the roles were exercised.
func (c *Coverage) Roles() Share { return shareOf(c.roles, c.seenRoles) }

// Policies is how many of the policies were exercised. A system policy was, if it was
// at any owner's.
func (c *Coverage) Policies() Share {
	seen := maps.Clone(c.seenPolicies)
	for p := range c.seenPolicies {
		if !c.policies[p] {
			seen[part{"", p.name}] = true
		}
	}
	return shareOf(c.policies, seen)
}

func shareOf(all, seen map[part]bool) Share {
	s := Share{Of: len(all), Never: Parts{}}
	for _, p := range slices.SortedFunc(maps.Keys(all), func(a, b part) int { return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.name, b.name)) }) {
		if seen[p] {
			s.Exercised++
		} else {
			s.Never = append(s.Never, Part{p.owner, p.name})
		}
	}
	return s
}
