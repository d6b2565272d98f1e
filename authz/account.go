package authz

import (
	"errors"
	"iter"

	"github.com/usher-authz/usher/policies"
)

// Account is one owner's account: groups, environments, custom policies, roles,
// members, grants. It is immutable.
type Account struct{ changed policies.Revision }

// ID is the owner's.
func (a *Account) ID() policies.AccountID { return "" }

// Changed is the last revision that touched this account.
func (a *Account) Changed() policies.Revision { return a.changed }

// KnowsAction tells whether a custom policy of this account names the action.
func (a *Account) KnowsAction(name policies.ActionName) bool { return false }

// Objects is the account as objects, in the order of [State.Objects].
func (a *Account) Objects() iter.Seq2[policies.Object, error] { return nil }

// BuildAccount makes the account of owner from its objects, in any order;
// changed is the last revision that touched it. What lies outside the account
// (do the members' accounts exist?) is not verified.
func BuildAccount(owner policies.AccountID, changed policies.Revision, objects []policies.Object) (*Account, error) {
	return nil, errors.New("not written yet")
}
