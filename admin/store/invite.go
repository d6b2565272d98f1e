package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/policies"
)

const (
	// The records that an invitation of an address may be about: those of the account
	// that has the address, and those that wait at the address for no account.
	sqlInvitable = selectMembers + `
where c.owner = $1 and (c.account = (select a.id from accounts a where a.email_key = $2) or c.email_key = $2 and c.account is null)
order by (c.status = 'removed'), (c.account is null), c.last_changed desc, c.id`
)

// Invitation invites an address. Roles of grants are ids or names. A nil
// DisplayName keeps that of a record that is there. Without grants the kept ones of
// an ended record are restored, otherwise they are replaced.
type Invitation struct {
	Email       string
	DisplayName *string
	Grants      []policies.Grant
}

// invitee is what an invitation finds at its address.
type invitee struct {
	email   string
	owner   *query[accountRow]
	holder  *query[accountRow]
	records *query[memberRow]
}

func (tx *tx) readInvitee(owner policies.AccountID, email string) invitee {
	key := policies.EmailKey(email)
	return invitee{
		email: policies.NormalizeName(email), owner: read[accountRow](tx, sqlAccount, owner),
		holder: read[accountRow](tx, sqlAccountByEmail, key), records: read[memberRow](tx, sqlInvitable, owner, key),
	}
}

// Invite puts an address into pending, by a new record or by one that ended: left,
// rejected and expired ones keep their display name and, if the invitation names
// none, their live grants; removed ones start afresh. Created says that the record
// is new. Errors: InvalidError (one's own address too), NotFoundError (the owner),
// StateError (the address is a member or invited already).
func (s *Store) Invite(ctx context.Context, call Call, owner policies.AccountID, invitation Invitation) (Result[policies.Member], error) {
	var errs []policies.FieldError
	if reason := policies.CheckEmail(invitation.Email); reason != "" {
		errs = append(errs, policies.FieldError{Field: "email", Reason: reason})
	}
	if n := invitation.DisplayName; n != nil {
		if reason := policies.CheckName(*n, true); reason != "" {
			errs = append(errs, policies.FieldError{Field: "display_name", Reason: reason})
		}
	}
	if err := policies.Invalid(errs); err != nil {
		return Result[policies.Member]{}, err
	}
	return writeResult(ctx, s, call, "member.invite", func(tx *tx, r *Result[policies.Member]) error {
		found, checks := tx.readInvitee(owner, invitation.Email), tx.readGrantChecks(owner, invitation.Grants)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.On(rights.InviteMember, resourcesOf(invitation.Grants)...)); err != nil {
			return err
		}
		if err := found.check(owner); err != nil {
			return err
		}
		grants, err := checks.check(tx.now, grantField)
		if err != nil {
			return err
		}
		return tx.invite(r, owner, found, invitation.DisplayName, grants, len(invitation.Grants) > 0)
	})
}

// check refuses an owner that is not there, and an invitation of oneself.
func (i invitee) check(owner policies.AccountID) error {
	account, there := i.owner.one()
	if !there {
		return &policies.NotFoundError{Kind: "account", ID: string(owner)}
	}
	if account.EmailKey == policies.EmailKey(i.email) {
		return invalid("email", "is the account's own: nobody is a member of their own account")
	}
	return nil
}

// invite puts the record that the address is about into pending, or makes one.
// Grants replace what it has if replace is set.
func (tx *tx) invite(
	r *Result[policies.Member], owner policies.AccountID, found invitee, displayName *string, grants []policies.Grant, replace bool,
) error {
	before, there := found.records.one() // a live one first, see sqlInvitable
	if !there {
		return tx.inviteNew(r, owner, found, displayName, grants)
	}
	if tx.byMember() && replace {
		return tx.inviteToMore(r, owner, before, found, displayName, grants)
	}
	if err := tx.match(true, before.Revision); err != nil {
		return err
	}
	after := before
	if err := tx.apply(policies.EventInvite, &after); err != nil {
		return err
	}
	if before.Status == policies.StatusRemoved {
		found.afresh(&after)
	}
	if displayName != nil {
		after.DisplayName = policies.NormalizeName(*displayName)
	}
	present, err := before.grants()
	if err != nil {
		return err
	}
	if !replace {
		grants = tx.liveGrants(present)
	}
	tx.setGrants(owner, before.ID, present, grants)
	tx.updateMember(before, after)
	memberResult(tx, r, after, grants, true)
	return nil
}

func (tx *tx) inviteNew(
	r *Result[policies.Member], owner policies.AccountID, found invitee, displayName *string, grants []policies.Grant,
) error {
	if err := tx.match(false, 0); err != nil {
		return err
	}
	id, err := tx.s.newID("member")
	if err != nil {
		return err
	}
	m := memberRow{
		Owner: owner, ID: policies.CollaborationID(id), Email: found.email, EmailKey: policies.EmailKey(found.email),
		CreatedAt: tx.now, LastChanged: tx.now,
	}
	if err := tx.apply(policies.EventInvite, &m); err != nil {
		return err
	}
	if displayName != nil {
		m.DisplayName = policies.NormalizeName(*displayName)
	}
	if holder, ok := found.holder.one(); ok {
		m.Account = &holder.ID
	}
	tx.insertMember(m, grants)
	memberResult(tx, r, m, grants, true)
	r.Created = true
	return nil
}

// afresh makes a removed record that of the address invited now. One that was never
// bound was that of the address invited then, which may be nobody's by now; one that
// was follows its account's.
func (i invitee) afresh(m *memberRow) {
	m.DisplayName, m.MemberDisplayName, m.InvitedName = "", "", ""
	if holder, ok := i.holder.one(); ok {
		m.Account = &holder.ID
	}
	if !m.Bound {
		m.Email, m.EmailKey = i.email, policies.EmailKey(i.email)
	}
}

// inviteToMore is an invitation by a member of an address that has a record, whatever
// its state, of which the writer need not know: the grants are added and nothing kept
// is replaced (domain.md, Who may change what). The result is as for a new invitation.
func (tx *tx) inviteToMore(
	r *Result[policies.Member], owner policies.AccountID, before memberRow, found invitee, displayName *string, grants []policies.Grant,
) error {
	after := before
	switch before.effectiveStatus(tx.now) {
	case policies.StatusPending, policies.StatusActive, policies.StatusSuspended:
	default:
		if err := tx.apply(policies.EventInvite, &after); err != nil {
			return err
		}
	}
	if before.Status == policies.StatusRemoved {
		found.afresh(&after)
		if displayName != nil {
			after.DisplayName = policies.NormalizeName(*displayName)
		}
	}
	present, err := before.grants()
	if err != nil {
		return err
	}
	changed := tx.setGrants(owner, before.ID, present, withGrants(tx.liveGrants(present), grants))
	if changed || !sameMember(before, after) {
		tx.updateMember(before, after)
	}
	shown := policies.Member{ID: before.ID, Email: found.email, Status: policies.StatusPending, LastChanged: tx.now, Grants: grants}
	if holder, ok := found.holder.one(); ok {
		shown.Account = &holder.ID
	}
	if displayName != nil {
		shown.DisplayName = policies.NormalizeName(*displayName)
	}
	*r = Result[policies.Member]{Value: shown, ETag: etag(tx.revision()), Created: true}
	return nil
}

// withGrants adds grants to those that are there. Where there is one on the resource
// already, the roles are added to it, unless they would then last longer than they
// were given for.
func withGrants(present, more []policies.Grant) []policies.Grant {
	all := slices.Clone(present)
	for _, g := range more {
		at := slices.IndexFunc(all, func(have policies.Grant) bool { return have.Resource == g.Resource })
		if at < 0 {
			all = append(all, g)
			continue
		}
		have := all[at]
		if g.ExpiresAt == nil || have.ExpiresAt != nil && !have.ExpiresAt.After(*g.ExpiresAt) {
			have.Roles = append(slices.Clone(have.Roles), g.Roles...)
			all[at] = have.Normalize()
		}
	}
	sortGrants(all)
	return all
}

func resourcesOf(grants []policies.Grant) []policies.Resource {
	resources := make([]policies.Resource, len(grants))
	for i, g := range grants {
		resources[i] = g.Resource
	}
	return resources
}

// liveGrants are those that have not ended: ended ones are not restored
// (domain.md, Removing things that are in use).
func (tx *tx) liveGrants(grants []policies.Grant) []policies.Grant {
	live := make([]policies.Grant, 0, len(grants))
	for _, g := range grants {
		if g.ExpiresAt == nil || tx.now.Before(*g.ExpiresAt) {
			live = append(live, g)
		}
	}
	return live
}

// Reinvite puts an ended record into pending again, with its live grants; a removed
// one starts afresh, as by [Store.Invite] of its address. Errors: NotFoundError,
// StateError, PreconditionError, InvalidError (the address is the owner's now).
func (s *Store) Reinvite(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return writeResult(ctx, s, call, "member.reinvite", func(tx *tx, r *Result[policies.Member]) error {
		q := tx.readMember(owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.OnAccount(rights.ResendMemberInvitation, owner)); err != nil {
			return err
		}
		before, err := tx.foundMember(q, id)
		if err != nil {
			return err
		}
		if before.Status == policies.StatusRemoved {
			tx.call.IfMatch = "" // it was held against the record asked for
			return tx.inviteAddress(r, owner, before.Email, nil, nil, false)
		}
		found := invitee{email: before.Email, records: q}
		return tx.invite(r, owner, found, nil, nil, false)
	})
}

// inviteAddress is an invitation within a write that has read something already.
func (tx *tx) inviteAddress(
	r *Result[policies.Member], owner policies.AccountID, email string, displayName *string, grants []policies.Grant, replace bool,
) error {
	found := tx.readInvitee(owner, email)
	if err := tx.flush(); err != nil {
		return err
	}
	if err := found.check(owner); err != nil {
		return err
	}
	return tx.invite(r, owner, found, displayName, grants, replace)
}

// CopyMember invites another address with the live grants of a record. Errors:
// NotFoundError (the record), and those of [Store.Invite].
func (s *Store) CopyMember(
	ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, email string, displayName *string,
) (Result[policies.Member], error) {
	var errs []policies.FieldError
	if reason := policies.CheckEmail(email); reason != "" {
		errs = append(errs, policies.FieldError{Field: "email", Reason: reason})
	}
	if displayName != nil {
		if reason := policies.CheckName(*displayName, true); reason != "" {
			errs = append(errs, policies.FieldError{Field: "display_name", Reason: reason})
		}
	}
	if err := policies.Invalid(errs); err != nil {
		return Result[policies.Member]{}, err
	}
	return writeResult(ctx, s, call, "member.copy", func(tx *tx, r *Result[policies.Member]) error {
		q := tx.readMember(owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.OnAccount(rights.CopyMember, owner)); err != nil {
			return err
		}
		source, err := tx.foundMember(q, id)
		if err != nil {
			return err
		}
		grants, err := source.grants()
		if err != nil {
			return fmt.Errorf("copy member %q: %w", id, err)
		}
		tx.call.IfMatch = "" // it was held against the record that is copied
		return tx.inviteAddress(r, owner, email, displayName, tx.liveGrants(grants), true)
	})
}
