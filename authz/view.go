package authz

import "github.com/usher-authz/usher/policies"

// View is what one answer is computed from: the platform at one revision, or as
// much of it as the answer needs. It does not change. [State] is the whole; the
// on-demand engine has partial ones.
type View interface {
	Revision() policies.Revision
	// Policy is the compiled policy in force.
	Policy() *Policy
	// Known tells whether the account exists.
	Known(account policies.AccountID) bool
	// OwnerOf tells whose the resource is; false: there is no such resource.
	OwnerOf(resource policies.Resource) (policies.AccountID, bool)
	// Account is what owner shares; false: there is no such account.
	Account(owner policies.AccountID) (*Account, bool)
}
