package policiestest

import (
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Explanation is what "explain" adds to an answer whose collaboration is active
// and whose action is known: what every level has, and for a denial the owner's
// roles that would allow the action on this type of resource.
type Explanation struct {
	Direct          []string
	SharedEnvGroups []GroupRoles
	Base            []string
	MissingRoles    []string // with action_not_granted and not_shared only
}

// GroupRoles is what one group gives. InheritedFrom is empty for the group's own
// roles, an ancestor's id, or "groups".
type GroupRoles struct {
	Group         policies.GroupID
	Roles         []string
	InheritedFrom string
}

// Explain is what explains m.Check(q, now), nil if nothing does: no roles were
// looked for.
func (m Model) Explain(q Question, now time.Time) *Explanation {
	answer := m.check(q, now) // guardrails take nothing away from an explanation
	looked := []policies.Reason{policies.ReasonGranted, policies.ReasonActionNotGranted, policies.ReasonNotShared}
	if !slices.Contains(looked, answer.Reason) {
		return nil
	}
	doc := m.ownerOf(q)
	member := find(doc.Members, func(x policies.DocumentMember) bool {
		return x.Account.ID != nil && string(*x.Account.ID) == q.Subject
	})
	live := liveGrants(member.Grants, now)
	namesOn := func(kind, id string) []string {
		if g := grantOn(live, kind, id); g != nil {
			return names(rolesOf(doc, []policies.Grant{*g}))
		}
		return []string{}
	}
	x := &Explanation{
		Direct: namesOn(q.ResourceType, q.ResourceID), SharedEnvGroups: []GroupRoles{}, Base: []string{},
	}
	if q.ResourceType == "environment" {
		x.Base = namesOn("environments", string(doc.Account.ID))
	}
	for _, group := range groupsAbove(doc, q) {
		g := grantForGroup(doc, live, group)
		if g == nil || q.ResourceType == "group" && g.Resource.ID == q.ResourceID && g.Resource.Type == "group" {
			continue // nothing found, or it is the direct one
		}
		found := GroupRoles{Group: group, Roles: names(rolesOf(doc, []policies.Grant{*g}))}
		switch {
		case g.Resource.Type == policies.TypeGroups:
			found.InheritedFrom = "groups"
		case g.Resource.ID != string(group):
			found.InheritedFrom = g.Resource.ID
		}
		x.SharedEnvGroups = append(x.SharedEnvGroups, found)
	}
	if answer.Reason != policies.ReasonGranted {
		var missing []policies.Role
		for _, r := range doc.Roles {
			if slices.ContainsFunc(m.policiesOf(doc, []policies.Role{r}), func(p policies.Policy) bool { return allows(p, q) }) {
				missing = append(missing, r)
			}
		}
		x.MissingRoles = names(missing)
	}
	return x
}
