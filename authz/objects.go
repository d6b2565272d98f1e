package authz

import (
	"cmp"
	"iter"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// Objects is the whole platform, always in the same order: the policy in force,
// tokens, then per account (in order of ids) what [Account.Objects] gives. An
// error ends it.
func (s *State) Objects() iter.Seq2[policies.Object, error] {
	return func(yield func(policies.Object, error) bool) {
		out := emitter{yield: yield}
		if !out.emit(policies.KindPolicyInForce, string(policies.KindPolicyInForce), s.policy.Source()) {
			return
		}
		for id, t := range s.tokens.all() {
			if !out.emit(policies.KindToken, id, policies.TokenBody{Hash: t.Hash, Scopes: t.Scopes, ExpiresAt: t.ExpiresAt}) {
				return
			}
		}
		for _, a := range s.accounts.all() {
			if !a.emit(yield) {
				return
			}
		}
	}
}

// AccountObjects is what [Account.Objects] gives for owner; nothing if there is no
// such account.
func (s *State) AccountObjects(owner policies.AccountID) iter.Seq2[policies.Object, error] {
	return func(yield func(policies.Object, error) bool) {
		if a, ok := s.accounts.get(owner); ok {
			a.emit(yield)
		}
	}
}

// Objects is the account as objects, always in the same order: the account,
// groups (parents first), environments, policies, roles, members, grants.
func (a *Account) Objects() iter.Seq2[policies.Object, error] {
	return func(yield func(policies.Object, error) bool) { a.emit(yield) }
}

// emitter encodes objects of one owner and passes them on.
type emitter struct {
	owner policies.AccountID
	yield func(policies.Object, error) bool
	// bodies are those of what several objects share (see like): they are encoded once.
	bodies map[any]jsontext.Value
}

func (e emitter) emit(kind policies.Kind, id string, body any) bool {
	o, err := policies.NewObject(kind, e.owner, id, body)
	return e.yield(o, err) && err == nil
}

// emitShared is emit for what made stands for: of all that have it, the body is the
// first one's.
func (e emitter) emitShared(kind policies.Kind, id string, made any, body func() any) bool {
	known, ok := e.bodies[made]
	if ok {
		return e.yield(policies.Object{Kind: kind, Owner: e.owner, ID: id, Body: known}, nil)
	}
	o, err := policies.NewObject(kind, e.owner, id, body())
	e.bodies[made] = o.Body
	return e.yield(o, err) && err == nil
}

func (a *Account) emit(yield func(policies.Object, error) bool) bool {
	if !(emitter{yield: yield}).emit(policies.KindAccount, string(a.ID()), policies.AccountBody{}) {
		return false
	}
	out := emitter{owner: a.ID(), yield: yield, bodies: map[any]jsontext.Value{}}
	for _, id := range a.parentsFirst() {
		body := policies.GroupBody{}
		if parent, _ := a.groups.get(id); parent.string() != "" {
			body.Parent = new(parent.string())
		}
		if !out.emit(policies.KindGroup, string(id), body) {
			return false
		}
	}
	for id, e := range a.environments.all() {
		if !out.emitShared(policies.KindEnvironment, string(id), e, func() any { return policies.EnvironmentBody{Groups: e.groups} }) {
			return false
		}
	}
	for id, p := range a.own().policies.all() {
		if !out.emit(policies.KindPolicy, string(id), policies.PolicyBody{Resources: p.resources, Actions: p.actions}) {
			return false
		}
	}
	for id, r := range a.roles.all() {
		body := policies.RoleBody{Name: r.name, Policies: r.policies, ReceiveLoadAlerts: r.receiveLoadAlerts}
		if !out.emit(policies.KindRole, string(id), body) {
			return false
		}
	}
	return a.emitMembers(out)
}

func (a *Account) emitMembers(out emitter) bool {
	for id, m := range a.members.all() {
		body := policies.MemberBody{Status: m.mark.status()}
		if account := m.account.string(); account != "" {
			body.Account = &account
		}
		if !out.emit(policies.KindMember, string(id), body) {
			return false
		}
	}
	for id, m := range a.members.all() {
		ok := m.grants.each(a.ID(), func(r policies.Resource, g *grant) bool {
			key := policies.GrantKey{Member: id, Resource: r}
			return out.emitShared(policies.KindGrant, key.String(), g, func() any { return policies.GrantBody{Roles: g.roles, ExpiresAt: g.ends} })
		})
		if !ok {
			return false
		}
	}
	return true
}

// parentsFirst are the groups by depth, then id.
func (a *Account) parentsFirst() []policies.GroupID {
	type placed struct {
		id    policies.GroupID
		depth int
	}
	groups := make([]placed, 0, a.groups.len())
	for id := range a.groups.all() {
		groups = append(groups, placed{id, len(a.ancestors(id))})
	}
	slices.SortFunc(groups, func(x, y placed) int {
		return cmp.Or(cmp.Compare(x.depth, y.depth), cmp.Compare(x.id, y.id))
	})
	ids := make([]policies.GroupID, len(groups))
	for i, g := range groups {
		ids[i] = g.id
	}
	return ids
}
