package authz

import (
	"context"

	"github.com/usher-authz/usher/policies"
)

// With is what s would be after a change of these objects: its next revision, but
// for a hash, so nothing can follow it. It costs what [State.Apply] costs, and holds
// the objects against each other and against s in the same way.
func (s *State) With(ctx context.Context, objects []policies.Object) (*State, error) {
	next := s.fork()
	next.header.Revision, next.header.Hash = s.header.Revision+1, policies.Hash{}
	if err := next.take(ctx, s.policy, objects); err != nil {
		return nil, err
	}
	return next, nil
}

// Supposed is the id of what is not there, but for a question: no id can be it.
const Supposed = "?"

// Supposition is a member that is not there, for whom Rego can be asked as for any
// other: "what would these grants give?".
type Supposition struct {
	Owner policies.AccountID
	// Status is that of the collaboration.
	Status policies.Status
	// Grants are all that the member has. One may be on the supposed environment or
	// group.
	Grants []policies.Grant
}

// Suppose is view with one more account, [Supposed], which is a member of the owner
// as the supposition says. The owner also has an environment in no group and a group
// at the root, both [Supposed], so that can be asked what a grant would give on what
// is not there yet. Without the owner in view nothing is added.
func Suppose(view View, s Supposition) View {
	have, ok := view.Account(s.Owner)
	if !ok {
		return view
	}
	account := have.fork()
	account.groups.set(newText[policies.GroupID](nil, Supposed), text[policies.GroupID]{})
	account.environments.set(newText[policies.EnvironmentID](nil, Supposed), &environment{})
	m := &member{id: newText[policies.CollaborationID](nil, Supposed), account: newText[policies.AccountID](nil, Supposed)}
	m.mark, _ = newMark(0, s.Status)
	for _, g := range s.Grants {
		m.grants.set(account, g.Resource, &grant{roles: g.Roles, ends: g.ExpiresAt})
	}
	account.subjects.set(m.account, m)
	return supposing{View: view, account: account}
}

type supposing struct {
	View

	account *Account
}

// Known implements [View].
func (v supposing) Known(account policies.AccountID) bool {
	return account == Supposed || v.View.Known(account)
}

// OwnerOf implements [View].
func (v supposing) OwnerOf(r policies.Resource) (policies.AccountID, bool) {
	if r.ID == Supposed && (r.Type == policies.TypeEnvironment || r.Type == policies.TypeGroup) {
		return v.account.ID(), true
	}
	return v.View.OwnerOf(r)
}

// Account implements [View].
func (v supposing) Account(owner policies.AccountID) (*Account, bool) {
	if owner == v.account.ID() {
		return v.account, true
	}
	return v.View.Account(owner)
}
