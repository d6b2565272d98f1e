package authz

import (
	"fmt"

	"github.com/usher-authz/usher/policies"
)

// verify holds one object that was put against the whole of the state it was put
// into. That a deletion leaves nothing behind that refers to what is gone is not
// verified here, since that would cost a walk through the account: the store sees
// to it by constraints, and Rego takes what is missing for nothing.
func (s *State) verify(o policies.Object) error {
	a, ok := s.accounts.get(o.Owner)
	if !ok {
		return nil // putting it would have failed
	}
	reason := ""
	switch o.Kind {
	case policies.KindGroup:
		reason = a.verifyGroup(policies.GroupID(o.ID))
	case policies.KindEnvironment:
		if found, ok := a.environments.get(policies.EnvironmentID(o.ID)); ok {
			reason = a.verifyEnvironment(found)
		}
	case policies.KindMember:
		if found, ok := a.members.get(policies.CollaborationID(o.ID)); ok {
			reason = s.verifyMember(found)
		}
	case policies.KindGrant:
		key, err := policies.ParseGrantKey(o.ID)
		if err != nil {
			return fault(o, "%v", err)
		}
		if m, ok := a.members.get(key.Member); ok {
			if found, ok := m.grants.get(a.ID(), key.Resource); ok {
				reason = a.verifyGrant(key.Resource, found)
			}
		}
	default:
	}
	if reason != "" {
		return fault(o, "%s", reason)
	}
	return nil
}

const noAccount = "is of account %q, which does not exist"

func (s *State) verifyMember(m *member) string {
	if account := m.account.string(); account != "" && !s.Known(account) {
		return fmt.Sprintf(noAccount, account)
	}
	return ""
}

// verifyGroup walks up to the root: a parent that is missing and a circle are
// refused. Whoever reads ancestors relies on it.
func (a *Account) verifyGroup(id policies.GroupID) string {
	at, ok := a.groups.get(id)
	for steps := 0; ok && at.string() != ""; steps++ {
		parent := at.string()
		if parent == id || steps > a.groups.len() {
			return "stands below itself"
		}
		if at, ok = a.groups.get(parent); !ok {
			return fmt.Sprintf("the parent %q does not exist", parent)
		}
	}
	return ""
}

func (a *Account) verifyEnvironment(e *environment) string {
	for _, id := range e.groups {
		if _, ok := a.groups.get(id); !ok {
			return fmt.Sprintf("the group %q does not exist", id)
		}
	}
	return ""
}

func (a *Account) verifyGrant(r policies.Resource, g *grant) string {
	if !a.has(r) {
		return "the owner has no such resource"
	}
	return a.verifyRoles(g)
}

func (a *Account) verifyRoles(g *grant) string {
	if len(g.roles) == 0 {
		return "gives no role"
	}
	for _, id := range g.roles {
		if _, ok := a.roles.get(id); !ok {
			return fmt.Sprintf("the role %q does not exist", id)
		}
	}
	return ""
}
