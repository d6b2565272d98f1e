package policiestest

import (
	"fmt"
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// NoGain holds what a write by a member made of an account against the no-gain rule,
// straight from domain.md: all instants, all members, all resources, all actions. It
// says what breaks the rule, or nothing. A write that removes a member may take away
// from that one what the writer does not hold.
func (m Model) NoGain(before, after policies.Document, writer policies.AccountID, now time.Time, removes bool) string {
	self := find(before.Members, func(x policies.DocumentMember) bool { return keyOf(x) == string(writer) })
	if self == nil || self.Status != policies.StatusActive {
		return fmt.Sprintf("%s is no active member", writer)
	}
	c := noGain{m, before, after, *self}
	for _, is := range after.Members {
		for _, g := range is.Grants {
			if slices.ContainsFunc(c.was(is).Grants, func(had policies.Grant) bool { return sameGrant(had, g) }) {
				continue
			}
			if fault := c.given(g, now); fault != "" {
				return fmt.Sprintf("%s is given %v on %v: %s", keyOf(is), g.Roles, g.Resource, fault)
			}
		}
	}
	for _, at := range c.instants(now) {
		if fault := c.results(at, removes); fault != "" {
			return fmt.Sprintf("at %v %s", at, fault)
		}
	}
	return ""
}

type noGain struct {
	Model

	before, after policies.Document
	self          policies.DocumentMember
}

// keyOf tells members apart: the account, or the address while no account has it.
func keyOf(m policies.DocumentMember) string {
	if m.Account.ID != nil {
		return string(*m.Account.ID)
	}
	return policies.EmailKey(m.Account.Email)
}

func sameGrant(a, b policies.Grant) bool {
	return a.Resource == b.Resource && slices.Equal(a.Roles, b.Roles) &&
		(a.ExpiresAt == b.ExpiresAt || a.ExpiresAt != nil && b.ExpiresAt != nil && a.ExpiresAt.Equal(*b.ExpiresAt))
}

// was is a member as it was before; nothing, if it was none.
func (c noGain) was(m policies.DocumentMember) policies.DocumentMember {
	if had := find(c.before.Members, func(x policies.DocumentMember) bool { return keyOf(x) == keyOf(m) }); had != nil {
		return *had
	}
	return policies.DocumentMember{}
}

// given: what is given is held (domain.md, The no-gain rule, 1).
func (c noGain) given(g policies.Grant, now time.Time) string {
	held := slices.DeleteFunc(c.found(c.before, c.self, g.Resource, now), func(own policies.Grant) bool {
		return own.ExpiresAt != nil && (g.ExpiresAt == nil || own.ExpiresAt.Before(*g.ExpiresAt))
	})
	for _, kind := range policies.ResourceTypes {
		if !coversKind(g.Resource.Type, kind) {
			continue
		}
		for action := range c.actions(c.before, []policies.Grant{g}, kind) {
			if !c.actions(c.before, held, kind)[action] {
				return fmt.Sprintf("the writer does not hold %s for the kind %s there", action, kind)
			}
		}
	}
	return ""
}

// results: what results is held (domain.md, The no-gain rule, 2). All members count as
// if they were active.
func (c noGain) results(at time.Time, removes bool) string {
	members := slices.Clone(c.after.Members)
	for _, had := range c.before.Members {
		if !slices.ContainsFunc(members, func(x policies.DocumentMember) bool { return keyOf(x) == keyOf(had) }) {
			had.Grants = nil
			members = append(members, had)
		}
	}
	for _, is := range members {
		there := slices.ContainsFunc(c.after.Members, func(x policies.DocumentMember) bool { return keyOf(x) == keyOf(is) })
		for _, r := range resources(&c.before) {
			if !slices.Contains(resources(&c.after), r) {
				continue
			}
			held := c.actions(c.before, c.found(c.before, c.self, r, at), r.Type)
			had := c.actions(c.before, c.found(c.before, c.was(is), r, at), r.Type)
			has := c.actions(c.after, c.found(c.after, is, r, at), r.Type)
			for _, action := range differing(had, has) {
				switch {
				case keyOf(is) == keyOf(c.self):
					return fmt.Sprintf("the writer itself gains or loses %s on %v", action, r)
				case held[action], had[action] && removes && !there:
				default:
					return fmt.Sprintf("%s gains or loses %s on %v, which the writer does not hold", keyOf(is), action, r)
				}
			}
		}
	}
	return ""
}

// differing are what is in one set only.
func differing(a, b map[policies.ActionName]bool) []policies.ActionName {
	var all []policies.ActionName
	for action := range a {
		if !b[action] {
			all = append(all, action)
		}
	}
	for action := range b {
		if !a[action] {
			all = append(all, action)
		}
	}
	slices.Sort(all)
	return all
}

// instants are now, and every later one at which a grant ends.
func (c noGain) instants(now time.Time) []time.Time {
	all := []time.Time{now}
	for _, m := range slices.Concat(c.before.Members, c.after.Members) {
		for _, g := range m.Grants {
			if g.ExpiresAt != nil && g.ExpiresAt.After(now) {
				all = append(all, *g.ExpiresAt)
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// found are the grants of the winning level.
func (noGain) found(doc policies.Document, m policies.DocumentMember, r policies.Resource, at time.Time) []policies.Grant {
	_, grants := winningLevel(&doc, liveGrants(m.Grants, at), Question{ResourceType: string(r.Type), ResourceID: r.ID})
	return grants
}

// actions are what grants give on a kind of resource.
func (c noGain) actions(doc policies.Document, grants []policies.Grant, kind policies.ResourceType) map[policies.ActionName]bool {
	all := map[policies.ActionName]bool{}
	for _, p := range c.policiesOf(&doc, rolesOf(&doc, grants)) {
		if slices.Contains(p.Resources, kind) {
			for _, action := range p.Actions {
				all[action] = true
			}
		}
	}
	return all
}

// coversKind: group covers groups and environments, groups too, environments covers
// environments.
func coversKind(of, kind policies.ResourceType) bool {
	switch of { //nolint:exhaustive // the others cover just their own kind
	case policies.TypeGroups:
		return kind == policies.TypeGroups || kind == policies.TypeGroup || kind == policies.TypeEnvironment
	case policies.TypeGroup:
		return kind == policies.TypeGroup || kind == policies.TypeEnvironment
	case policies.TypeEnvironments:
		return kind == policies.TypeEnvironments || kind == policies.TypeEnvironment
	}
	return kind == of
}
