package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

// An invitation is open while its record is pending and its time has not passed. A
// link opens it as long as it is the record's present one: accepting, rejecting,
// removing, resending and inviting anew take the record's invitation away or give it
// another, and so every link of the old one is of no use, with nothing to delete.

// linkBytes are the random bytes of a link: 256 bits, so that its hash needs no salt
// and no stretching.
const linkBytes = 32

// The record that a link opens: $1 is the hash of its secret.
const ofLink = ` where (c.owner, c.id, c.invitation) in (select l.owner, l.collaboration_id, l.invitation from invitation_links l where l.hash = $1)`

const (
	sqlInsertLink = `insert into invitation_links (hash, owner, collaboration_id, invitation, created_at)
select $4, c.owner, c.id, c.invitation, $5 from collaborations c
where c.owner = $1 and c.id = $2 and c.invitation = $3 and c.invitation_expires_at > $5`
	sqlLinkedMember = selectMembers + ofLink
	// $2 is now, see selectCollaborations.
	sqlLinkedCollaboration = selectCollaborations + ofLink
	sqlLinkedPolicies      = `select p.owner, p.id, p.name, p.description, p.resources, p.actions, p.revision from policies p
where p.owner in (select c.owner from collaborations c` + ofLink + `)`
	// Who has the address of an invitation that is nobody's yet.
	sqlAccountOfAddress = `select a.id, a.email, a.email_key, a.display_name, a.created_at, a.revision from accounts a
where a.email_key = (select c.email_key from collaborations c` + ofLink + `)`
)

// beginInvitation gives a pending record an invitation, and its end.
func (tx *tx) beginInvitation(m *memberRow) error {
	id, err := tx.s.newID("invitation")
	if err != nil {
		return err
	}
	ends := tx.now.Add(tx.s.ttl)
	m.Invitation, m.InvitationExpiresAt = &id, &ends
	return nil
}

// endInvitation is for a record that is not pending any more.
func endInvitation(r *memberRow) { r.Invitation, r.InvitationExpiresAt = nil, nil }

// hashLink is what is stored of a link's secret. Whatever a caller sends has one: so
// a secret that cannot be costs the same look-up as one that could.
func hashLink(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// NewLink makes a link to an invitation of a member: a secret of 256 random bits in
// base64url, of which only the hash is kept. The links made before go on working. A
// NotFoundError says that the invitation is not open any more.
func (s *Store) NewLink(ctx context.Context, owner policies.AccountID, member policies.CollaborationID, invitation string) (string, error) {
	var b [linkBytes]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		return "", fmt.Errorf("read random bytes for a link: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	tag, err := s.pool.Exec(ctx, sqlInsertLink, owner, member, invitation, hashLink(secret), policies.NormalizeTime(s.clock()))
	if err != nil {
		return "", fmt.Errorf("make a link for member %q of owner %q: %w", member, owner, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return "", &policies.NotFoundError{Kind: "invitation", ID: invitation}
	}
	return secret, nil
}

// LinkedInvitation is an open invitation, as the holder of its link sees it.
type LinkedInvitation struct {
	Collaboration Collaboration
	// Email is the address that was invited; InvitedAs the name that the owner gave
	// to whoever has it.
	Email, InvitedAs string
	ExpiresAt        time.Time
	// Account has the address, or is the one that the record is bound to: only it may
	// accept. Empty while nobody has the address.
	Account policies.AccountID
	// Policies are the owner's own, by id.
	Policies map[policies.PolicyID]policies.Policy
}

// Invitation finds the open invitation of a link. Whatever the reason that there is
// none, the error is the same NotFoundError, without the secret.
func (s *Store) Invitation(ctx context.Context, secret string) (LinkedInvitation, error) {
	hash, now := hashLink(secret), policies.NormalizeTime(s.clock())
	batch := &pgx.Batch{}
	members := readRows(batch, pgx.RowToStructByName[memberRow], sqlLinkedMember, hash)
	shared := readRows(batch, pgx.RowToStructByName[collaborationRow], sqlLinkedCollaboration, hash, now)
	custom := readRows(batch, pgx.RowToStructByName[policyRow], sqlLinkedPolicies, hash)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return LinkedInvitation{}, translate(err)
	}
	m, there := members.one()
	row, still := shared.one()
	if !there || !still || m.effectiveStatus(now) != policies.StatusPending {
		return LinkedInvitation{}, errNoInvitation()
	}
	found := LinkedInvitation{
		Email: m.Email, InvitedAs: m.DisplayName, ExpiresAt: policies.NormalizeTime(*m.InvitationExpiresAt),
		Policies: make(map[policies.PolicyID]policies.Policy, len(custom.rows)),
	}
	if m.Account != nil {
		found.Account = *m.Account
	}
	for _, p := range custom.rows {
		found.Policies[p.ID] = p.policy()
	}
	var err error
	found.Collaboration, err = row.collaboration()
	return found, err
}

func errNoInvitation() error { return &policies.NotFoundError{Kind: "invitation"} }

// Accepted is an accepted invitation, and the account that is the member now.
type Accepted struct {
	Account       policies.AccountID
	Collaboration Collaboration
}

// AcceptLink accepts the invitation of a link for an account, which is bound to it
// from now on, and made in the same revision if it registers. Errors: the
// NotFoundError of [Store.Invitation]; ForbiddenError (the invitation is another
// account's, or the address is not verified); TakenError (the account to register has
// another address, or is a member already).
func (s *Store) AcceptLink(ctx context.Context, call Call, secret string, by Acceptor) (Result[Accepted], error) {
	hash := hashLink(secret)
	return writeResult(ctx, s, call, "invitation.accept", func(tx *tx, r *Result[Accepted]) error {
		linked, holders := read[memberRow](tx, sqlLinkedMember, hash), read[accountRow](tx, sqlAccountOfAddress, hash)
		accounts := read[accountRow](tx, sqlAccount, by.ID)
		if err := tx.flush(); err != nil {
			return err
		}
		m, there := linked.one()
		if !there || m.effectiveStatus(tx.now) != policies.StatusPending {
			return errNoInvitation()
		}
		m, account, err := tx.claim(m, by, accounts, holders)
		if err != nil {
			return err
		}
		return tx.accept(r, m, account)
	})
}

// accept binds a record to its account, and makes it active.
func (tx *tx) accept(r *Result[Accepted], before memberRow, account accountRow) error {
	after := before
	if err := tx.apply(policies.EventAccept, &after); err != nil {
		return err
	}
	bind(&after, account)
	tx.updateMember(before, after)
	var now Result[Collaboration]
	err := tx.collaborationResult(&now, account.ID, before.ID)
	r.Value, r.ETag = Accepted{Account: account.ID, Collaboration: now.Value}, now.ETag
	return err
}

// bind makes the record the account's, whatever becomes of its address.
func bind(r *memberRow, account accountRow) {
	r.Bound, r.Email, r.EmailKey, r.InvitedName = true, account.Email, account.EmailKey, ""
}

// RejectLink declines the invitation of a link: whoever holds it may. Errors: the
// NotFoundError of [Store.Invitation].
func (s *Store) RejectLink(ctx context.Context, call Call, secret string) (Result[struct{}], error) {
	hash := hashLink(secret)
	return writeResult(ctx, s, call, "invitation.reject", func(tx *tx, _ *Result[struct{}]) error {
		linked := read[memberRow](tx, sqlLinkedMember, hash)
		if err := tx.flush(); err != nil {
			return err
		}
		before, there := linked.one()
		if !there || before.effectiveStatus(tx.now) != policies.StatusPending {
			return errNoInvitation()
		}
		after := before
		if err := tx.apply(policies.EventReject, &after); err != nil {
			return err
		}
		tx.updateMember(before, after)
		return nil
	})
}

// AcceptedBefore is the answer to an earlier [Store.AcceptLink] with the same
// idempotency key; found is false if there was none. The invitation is used up by then.
func (s *Store) AcceptedBefore(ctx context.Context, call Call) (result Result[Accepted], found bool, err error) {
	return keptResult[Accepted](ctx, s, call)
}
