package feedtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/usher-authz/usher/policies"
)

// RandomWrite makes a revision of one of the writes that happen to a platform, as
// roll decides: roll(n) is a number from 0 to n-1. It touches accounts, groups,
// environments (made, moved, transferred, deleted), roles, members, grants, tokens,
// or nothing at all.
func (p *Platform) RandomWrite(roll func(n int) int) policies.Change {
	p.t.Helper()
	w := &randomWrite{p: p, roll: roll, owned: map[policies.AccountID]map[policies.Kind][]policies.Object{}}
	for _, o := range Objects(p.t, p.State()) {
		switch o.Kind {
		case policies.KindToken:
			w.tokens = append(w.tokens, o)
		case policies.KindAccount:
			id := policies.AccountID(o.ID)
			w.accounts = append(w.accounts, id)
			w.owned[id] = map[policies.Kind][]policies.Object{}
		case policies.KindPolicyInForce:
		default:
			w.owned[o.Owner][o.Kind] = append(w.owned[o.Owner][o.Kind], o)
		}
	}
	return p.Write(w.objects()...)
}

type randomWrite struct {
	p        *Platform
	roll     func(n int) int
	tokens   []policies.Object
	accounts []policies.AccountID
	owned    map[policies.AccountID]map[policies.Kind][]policies.Object
}

func (w *randomWrite) put(kind policies.Kind, owner policies.AccountID, id string, body any) []policies.Object {
	w.p.t.Helper()
	return []policies.Object{Object(w.p.t, kind, owner, id, body)}
}

func (w *randomWrite) objects() []policies.Object {
	w.p.t.Helper()
	if len(w.accounts) == 0 {
		return w.put(policies.KindAccount, "", "a0", policies.AccountBody{})
	}
	owner := w.accounts[w.roll(len(w.accounts))]
	switch w.roll(12) {
	case 0:
		return w.put(policies.KindAccount, "", fmt.Sprintf("a%d", w.roll(9)), policies.AccountBody{})
	case 1, 2:
		e := policies.Resource{Type: policies.TypeEnvironment, ID: fmt.Sprintf("e%d", w.roll(30))}
		if of, ok := w.p.State().OwnerOf(e); !ok || of == owner {
			return w.put(policies.KindEnvironment, owner, e.ID, policies.EnvironmentBody{Groups: w.groups(owner)})
		}
	case 3:
		if e, ok := w.any(owner, policies.KindEnvironment); ok {
			return w.without(e)
		}
	case 4:
		return w.transfer(owner)
	case 5:
		return w.put(policies.KindGroup, owner, fmt.Sprintf("%s.g%d", owner, w.roll(5)), policies.GroupBody{})
	case 6:
		body := policies.RoleBody{Name: fmt.Sprintf("R%d", w.roll(99)), Policies: []policies.PolicyID{"environment.start"}}
		return w.put(policies.KindRole, owner, fmt.Sprintf("r%d", w.roll(3)), body)
	case 7:
		member := w.accounts[w.roll(len(w.accounts))]
		body := policies.MemberBody{Account: &member, Status: policies.Statuses[w.roll(3)]}
		if member != owner {
			return w.put(policies.KindMember, owner, fmt.Sprintf("%s.m.%s", owner, member), body)
		}
	case 8:
		return w.grant(owner)
	case 9:
		if g, ok := w.any(owner, policies.KindGrant); ok {
			return w.put(policies.KindGrant, owner, g.ID, nil)
		}
	case 10:
		// Small numbers are likely, and no two tokens may have one secret.
		id := fmt.Sprintf("t%d", w.roll(3))
		return w.put(policies.KindToken, "", id, Token(fmt.Sprintf("random %s %d", id, w.roll(1<<30))))
	case 11:
		if len(w.tokens) > 0 {
			return w.put(policies.KindToken, "", w.tokens[w.roll(len(w.tokens))].ID, nil)
		}
	}
	return nil
}

func (w *randomWrite) any(owner policies.AccountID, kind policies.Kind) (policies.Object, bool) {
	all := w.owned[owner][kind]
	if len(all) == 0 {
		return policies.Object{}, false
	}
	return all[w.roll(len(all))], true
}

func (w *randomWrite) groups(owner policies.AccountID) []policies.GroupID {
	groups := []policies.GroupID{}
	for _, g := range w.owned[owner][policies.KindGroup] {
		if w.roll(2) == 0 {
			groups = append(groups, policies.GroupID(g.ID))
		}
	}
	return groups
}

// without deletes an environment with its grants.
func (w *randomWrite) without(e policies.Object) []policies.Object {
	objects := w.put(policies.KindEnvironment, e.Owner, e.ID, nil)
	for _, g := range w.owned[e.Owner][policies.KindGrant] {
		if strings.HasSuffix(g.ID, "/environment/"+e.ID) {
			objects = append(objects, w.put(policies.KindGrant, g.Owner, g.ID, nil)...)
		}
	}
	return objects
}

func (w *randomWrite) transfer(owner policies.AccountID) []policies.Object {
	e, ok := w.any(owner, policies.KindEnvironment)
	to := w.accounts[w.roll(len(w.accounts))]
	if !ok || to == owner {
		return nil
	}
	return append(w.without(e), w.put(policies.KindEnvironment, to, e.ID, policies.EnvironmentBody{Groups: []policies.GroupID{}})...)
}

func (w *randomWrite) grant(owner policies.AccountID) []policies.Object {
	member, ok := w.any(owner, policies.KindMember)
	role, ok2 := w.any(owner, policies.KindRole)
	if !ok || !ok2 {
		return nil
	}
	resource := policies.Resource{Type: policies.TypeEnvironments, ID: string(owner)}
	if e, ok := w.any(owner, policies.KindEnvironment); ok && w.roll(2) == 0 {
		resource = policies.Resource{Type: policies.TypeEnvironment, ID: e.ID}
	}
	body := policies.GrantBody{Roles: []policies.RoleID{policies.RoleID(role.ID)}}
	if w.roll(3) == 0 {
		ends := time.Date(2031, 1, 1+w.roll(365), 0, 0, 0, 0, time.UTC)
		body.ExpiresAt = &ends
	}
	key := policies.GrantKey{Member: policies.CollaborationID(member.ID), Resource: resource}
	return w.put(policies.KindGrant, owner, key.String(), body)
}
