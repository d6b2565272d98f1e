package store

import (
	"context"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlMemberByID = selectMembers + ` where c.id = $1`
	sqlMemberOf   = selectMembers + ` where c.owner = $1 and c.account = $2`
	// Who has the address of a record.
	sqlHolderOf = `select a.id, a.email, a.email_key, a.display_name, a.created_at, a.revision from accounts a
where a.email_key = (select c.email_key from collaborations c where c.id = $1)`
)

// Acceptor is who accepts an invitation (domain.md, Life of a collaboration: only
// the person with that address; once bound, only that account).
type Acceptor struct {
	// Account is known by its id. Its name is for one that is to be made, whose address is
	// then the verified one, else the invitation's.
	policies.Account

	// Registers says that the account is to be made if it is not there: it was proven
	// to have the address, or the platform registered it for the holder of the link.
	Registers bool
	// SignedIn says that the account came by itself. Then only Verified says which
	// address it has; a service that acts for it vouches for the one that it has here.
	SignedIn bool
	// Verified is an address that the account was proven to have, whatever is known
	// of it here; empty if none was.
	Verified string
}

// proves tells whether the account was proven to have the invitation's address.
func (by Acceptor) proves(m memberRow) bool {
	return by.Verified != "" && policies.EmailKey(by.Verified) == m.EmailKey
}

// Accept makes an invitation of by's address a collaboration, bound to the account
// from now on. One that registers is made in the same revision. Errors: NotFoundError,
// ForbiddenError (the address is not verified), StateError (also when the
// invitation has ended by the clock), TakenError (the account is a member
// already), PreconditionError, InvalidError (the account to make).
func (s *Store) Accept(ctx context.Context, call Call, by Acceptor, id policies.CollaborationID) (Result[Collaboration], error) {
	return writeResult(ctx, s, call, "collaboration.accept", func(tx *tx, r *Result[Collaboration]) error {
		q, accounts := read[memberRow](tx, sqlMemberByID, id), read[accountRow](tx, sqlAccount, by.ID)
		holders := read[accountRow](tx, sqlHolderOf, id)
		if err := tx.flush(); err != nil {
			return err
		}
		before, there := q.one()
		// One that is somebody else's is one that is not there.
		there = there && (before.Account != nil && *before.Account == by.ID || before.Account == nil && by.proves(before))
		if err := tx.match(there, before.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "collaboration", ID: string(id)}
		}
		after := before
		if err := tx.apply(policies.EventAccept, &after); err != nil { // nobody is made by an invitation that has ended
			return err
		}
		before, account, err := tx.claim(before, by, accounts, holders)
		if err != nil {
			return err
		}
		after.Account = before.Account
		bind(&after, account)
		if !sameMember(before, after) {
			tx.updateMember(before, after)
		}
		return tx.collaborationResult(r, by.ID, id)
	})
}

// claim gives an invitation to who accepts it, if that is the one who may: the record
// is the account's afterwards, though not bound yet.
func (tx *tx) claim(m memberRow, by Acceptor, accounts, holders *query[accountRow]) (memberRow, accountRow, error) {
	account, known := accounts.one()
	_, held := holders.one()
	others := &policies.ForbiddenError{Reason: "The invitation is for another account."}
	switch {
	case m.Account != nil && *m.Account != by.ID, m.Account == nil && !known && (held || !by.Registers):
		return m, account, others
	case m.Account != nil && !m.Bound && by.SignedIn && !by.proves(m):
		return m, account, &policies.ForbiddenError{Reason: "The sign-in does not show the address of the invitation as verified."}
	case m.Account != nil:
		return m, account, nil
	case by.SignedIn && !by.proves(m):
		return m, account, others
	case !known:
		return tx.register(by, m)
	case by.Registers && !by.SignedIn:
		return m, account, &policies.TakenError{Field: "id", Value: string(by.ID), Reason: "is an account with another address"}
	case !by.proves(m) || account.ID == m.Owner:
		return m, account, others
	}
	// The provider knows another address of the account than usher does.
	m, err := tx.giveTo(m, account)
	return m, account, err
}

// register makes the account that accepts, which gives it the record of its address.
func (tx *tx) register(by Acceptor, m memberRow) (memberRow, accountRow, error) {
	account := by.Account
	if account.Email = by.Verified; account.Email == "" {
		account.Email = m.Email
	}
	account = account.Normalize()
	if err := policies.Invalid(account.Validate()); err != nil {
		return m, accountRow{}, err
	}
	if err := tx.putAccount(accountRow{}, false, account); err != nil {
		return m, accountRow{}, err
	}
	made, again := read[accountRow](tx, sqlAccount, account.ID), tx.readMember(m.Owner, m.ID)
	if err := tx.flush(); err != nil {
		return m, accountRow{}, err
	}
	row, _ := made.one()
	m, _ = again.one()
	return m, row, nil
}

// giveTo gives a record that is nobody's to account, unless that is a member of the
// owner by another one.
func (tx *tx) giveTo(m memberRow, account accountRow) (memberRow, error) {
	others := read[memberRow](tx, sqlMemberOf, m.Owner, account.ID)
	if err := tx.flush(); err != nil {
		return m, err
	}
	if other, there := others.one(); there && other.Status != policies.StatusRemoved {
		return m, &policies.TakenError{Field: "account", Value: string(account.ID), Reason: "is a member by another record already"}
	}
	if err := tx.giveWay([]string{string(m.Owner)}, []string{string(account.ID)}); err != nil {
		return m, err
	}
	given := m
	given.Account = &account.ID
	tx.updateMember(m, given)
	return given, nil
}
