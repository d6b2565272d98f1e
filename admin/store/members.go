package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/policies"
)

// A record with its grants, in one row: the grants as a JSON array, so that one
// statement, and so one revision, gives both.
const selectMembers = `select c.owner, c.id, c.email, c.email_key, c.account, c.bound, c.invited_name, c.display_name, c.member_display_name,
    c.status, c.invitation, c.invitation_expires_at, c.created_at, c.last_changed, c.revision,
    coalesce((select json_agg(json_build_object('t', g.resource_type, 'i', g.resource_id, 'r', g.roles, 'e', g.expires_us))
        from (select resource_type, resource_id, array_agg(role_id order by role_id) as roles,
                  min((extract(epoch from expires_at) * 1000000)::bigint) as expires_us
              from grants where owner = c.owner and collaboration_id = c.id
              group by resource_type, resource_id) g), '[]')::text as grants
from collaborations c`

const (
	sqlMember           = selectMembers + ` where c.owner = $1 and c.id = $2`
	sqlAllMembers       = selectMembers + ` where c.owner = $1 order by c.id`
	sqlMembersByAccount = selectMembers + ` where c.account = $1 order by c.owner, c.id`

	sqlInsertMember = `insert into collaborations (owner, id, email, email_key, account, bound, invited_name, display_name, name_key,
    member_display_name, status, invitation, invitation_expires_at, created_at, last_changed, revision)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`
	sqlUpdateMember = `update collaborations set email = $3, email_key = $4, account = $5, bound = $6, invited_name = $7, display_name = $8, name_key = $9,
    member_display_name = $10, status = $11, invitation = $12, invitation_expires_at = $13, last_changed = $14, revision = $15
where owner = $1 and id = $2`
)

type memberRow struct {
	Owner             policies.AccountID
	ID                policies.CollaborationID
	Email             string
	EmailKey          string
	Account           *policies.AccountID
	Bound             bool
	InvitedName       string
	DisplayName       string
	MemberDisplayName string
	Status            policies.Status
	// Invitation is the id of the invitation that links open; nil unless the record is
	// pending, and while an imported one has none.
	Invitation          *string
	InvitationExpiresAt *time.Time
	CreatedAt           time.Time
	LastChanged         time.Time
	Revision            policies.Revision
	Grants              []byte // JSON, see selectMembers
}

// wireGrant is a grant as selectMembers gives it. The end is in microseconds.
type wireGrant struct {
	Type    policies.ResourceType `json:"t"`
	ID      string                `json:"i"`
	Roles   []policies.RoleID     `json:"r"`
	Expires *int64                `json:"e"`
}

// grants are the record's, sorted by resource.
func (r memberRow) grants() ([]policies.Grant, error) {
	if len(r.Grants) == 0 {
		return []policies.Grant{}, nil
	}
	var wire []wireGrant
	if err := json.Unmarshal(r.Grants, &wire); err != nil {
		return nil, fmt.Errorf("decode the grants of member %q of owner %q: %w", r.ID, r.Owner, err)
	}
	grants := make([]policies.Grant, 0, len(wire))
	for _, w := range wire {
		g := policies.Grant{Resource: policies.Resource{Type: w.Type, ID: w.ID}, Roles: w.Roles}
		if w.Expires != nil {
			t := time.UnixMicro(*w.Expires).UTC()
			g.ExpiresAt = &t
		}
		grants = append(grants, g)
	}
	sortGrants(grants)
	return grants, nil
}

func (r memberRow) member() (policies.Member, error) {
	grants, err := r.grants()
	return policies.Member{
		ID: r.ID, Email: r.Email, Account: r.Account, DisplayName: r.DisplayName, Status: r.Status,
		LastChanged: policies.NormalizeTime(r.LastChanged), Grants: grants,
	}, err
}

func (r memberRow) item() (Item[policies.Member], error) {
	m, err := r.member()
	return Item[policies.Member]{Value: m, ETag: etag(r.Revision), Revision: r.Revision}, err
}

// effectiveStatus is the status at a time: an invitation ends by the clock, whether
// or not that was written down.
func (r memberRow) effectiveStatus(now time.Time) policies.Status {
	if r.Status == policies.StatusPending && r.InvitationExpiresAt != nil && !now.Before(*r.InvitationExpiresAt) {
		return policies.StatusExpired
	}
	return r.Status
}

// next is the status after an event, or a StateError.
func (r memberRow) next(event policies.Event, now time.Time) (policies.Status, error) {
	return policies.Next(r.ID, r.effectiveStatus(now), event)
}

// memberObject is a record as the log has it, without its grants.
type memberObject struct{ memberRow }

func (o memberObject) key() objectKey {
	return objectKey{kind: policies.KindMember, owner: o.Owner, id: string(o.ID)}
}
func (o memberObject) body() any { return policies.MemberBody{Account: o.Account, Status: o.Status} }
func (o memberObject) public() any {
	var expires *time.Time
	if o.InvitationExpiresAt != nil {
		t := policies.NormalizeTime(*o.InvitationExpiresAt)
		expires = &t
	}
	return struct {
		Bound               bool       `json:"bound"`
		Invitation          *string    `json:"invitation"`
		InvitationExpiresAt *time.Time `json:"invitation_expires_at"`
	}{o.Bound, o.Invitation, expires}
}
func (o memberObject) personal() any {
	return struct {
		Email             string `json:"email"`
		InvitedName       string `json:"invited_name,omitzero"`
		DisplayName       string `json:"display_name"`
		MemberDisplayName string `json:"member_display_name"`
	}{o.Email, o.InvitedName, o.DisplayName, o.MemberDisplayName}
}

// sameMember compares what is kept of two records, grants apart.
func sameMember(a, b memberRow) bool {
	return a.Email == b.Email && samePointer(a.Account, b.Account) && a.Bound == b.Bound && a.InvitedName == b.InvitedName &&
		a.DisplayName == b.DisplayName && a.MemberDisplayName == b.MemberDisplayName && a.Status == b.Status &&
		samePointer(a.Invitation, b.Invitation) && sameTime(a.InvitationExpiresAt, b.InvitationExpiresAt)
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// insertMember makes a record and its grants.
func (tx *tx) insertMember(m memberRow, grants []policies.Grant) {
	tx.change(sqlInsertMember, []any{
		m.Owner, m.ID, m.Email, m.EmailKey, m.Account, m.Bound, m.InvitedName, m.DisplayName, policies.NameKey(m.DisplayName),
		m.MemberDisplayName, m.Status, m.Invitation, m.InvitationExpiresAt, tx.now, tx.now, tx.revision(),
	}, made(memberObject{m}))
	tx.insertGrants(m.Owner, m.ID, grants)
}

// updateMember writes a record that is there, its grants apart.
func (tx *tx) updateMember(before, after memberRow) {
	tx.change(sqlUpdateMember, []any{
		after.Owner, after.ID, after.Email, after.EmailKey, after.Account, after.Bound, after.InvitedName, after.DisplayName,
		policies.NameKey(after.DisplayName), after.MemberDisplayName, after.Status, after.Invitation, after.InvitationExpiresAt, tx.now, tx.revision(),
	}, replaced(memberObject{before}, memberObject{after}))
}

// replaceMember writes a record that is there. If after has no grants any more,
// those of before go; other changes of grants are not made here.
func (tx *tx) replaceMember(before, after memberRow) error {
	if after.Grants == nil {
		grants, err := before.grants()
		if err != nil {
			return err
		}
		tx.deleteGrants(before.Owner, before.ID, grants)
	}
	tx.updateMember(before, after)
	return nil
}

// readMember queues a record of owner.
func (tx *tx) readMember(owner policies.AccountID, id policies.CollaborationID) *query[memberRow] {
	return read[memberRow](tx, sqlMember, owner, id)
}

// foundMember is the record that a write is about, or why there is none.
func (tx *tx) foundMember(q *query[memberRow], id policies.CollaborationID) (memberRow, error) {
	row, there := q.one()
	if err := tx.match(there, row.Revision); err != nil {
		return row, err
	}
	if !there {
		return row, &policies.NotFoundError{Kind: "member", ID: string(id)}
	}
	return row, nil
}

// memberResult fills in a result from a record as it is now and its grants.
func memberResult(tx *tx, r *Result[policies.Member], row memberRow, grants []policies.Grant, changed bool) {
	row.Grants = nil
	r.Value, _ = row.member() // cannot fail without grants
	r.Value.Grants = grants
	r.ETag = etag(row.Revision)
	if changed {
		r.Value.LastChanged = tx.now
		r.ETag = etag(tx.revision())
	}
}

// GetMember finds a record of owner, or a NotFoundError.
func (s *Store) GetMember(ctx context.Context, owner policies.AccountID, id policies.CollaborationID) (Item[policies.Member], error) {
	row, err := getOne[memberRow](ctx, s, "member", string(id), sqlMember, owner, id)
	if err != nil {
		return Item[policies.Member]{}, err
	}
	return row.item()
}

// UpdateMember sets the display name that the owner gave, if it is not nil. Errors:
// InvalidError, NotFoundError, PreconditionError.
func (s *Store) UpdateMember(
	ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, displayName *string,
) (Result[policies.Member], error) {
	if displayName != nil {
		if reason := policies.CheckName(*displayName, true); reason != "" {
			return Result[policies.Member]{}, invalid("display_name", reason)
		}
	}
	return s.changeMember(ctx, call, "member.update", rights.EditMember, owner, id, func(_ *tx, m *memberRow) error {
		if displayName != nil {
			m.DisplayName = policies.NormalizeName(*displayName)
		}
		return nil
	})
}

// Suspend stops an active member for a while. Errors: NotFoundError, StateError,
// PreconditionError; so with the other events.
func (s *Store) Suspend(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return s.memberEvent(ctx, call, "member.suspend", rights.SuspendMember, owner, id, policies.EventSuspend)
}

// Activate lets a suspended member go on.
func (s *Store) Activate(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return s.memberEvent(ctx, call, "member.activate", rights.ActivateMember, owner, id, policies.EventActivate)
}

// Resend begins an invitation's time anew.
func (s *Store) Resend(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return s.memberEvent(ctx, call, "member.resend", rights.ResendMemberInvitation, owner, id, policies.EventResend)
}

// RemoveMember ends a collaboration for good: its grants are deleted, the record
// stays. Removing it again changes nothing.
func (s *Store) RemoveMember(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "member.remove", func(tx *tx, _ *Result[struct{}]) error {
		q := tx.readMember(owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.OnAccount(rights.DeleteMember, owner)); err != nil {
			return err
		}
		tx.removing = id
		before, err := tx.foundMember(q, id)
		if err != nil || before.Status == policies.StatusRemoved {
			return err
		}
		after := before
		if after.Status, err = before.next(policies.EventRemove, tx.now); err != nil {
			return err
		}
		endInvitation(&after)
		after.Grants = nil
		return tx.replaceMember(before, after)
	})
}

func (s *Store) memberEvent(
	ctx context.Context, call Call, action string, right policies.ActionName,
	owner policies.AccountID, id policies.CollaborationID, event policies.Event,
) (Result[policies.Member], error) {
	return s.changeMember(ctx, call, action, right, owner, id, func(tx *tx, m *memberRow) error {
		return tx.apply(event, m)
	})
}

// apply puts m into the status that follows from event.
func (tx *tx) apply(event policies.Event, m *memberRow) error {
	status, err := m.next(event, tx.now)
	if err != nil {
		return err
	}
	m.Status = status
	endInvitation(m)
	if status == policies.StatusPending {
		return tx.beginInvitation(m)
	}
	return nil
}

// changeMember changes a record, its grants apart. right is what a member needs on
// the account.
func (s *Store) changeMember(
	ctx context.Context, call Call, action string, right policies.ActionName,
	owner policies.AccountID, id policies.CollaborationID, change func(*tx, *memberRow) error,
) (Result[policies.Member], error) {
	return writeResult(ctx, s, call, action, func(tx *tx, r *Result[policies.Member]) error {
		q := tx.readMember(owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.OnAccount(right, owner)); err != nil {
			return err
		}
		before, err := tx.foundMember(q, id)
		if err != nil {
			return err
		}
		grants, err := before.grants()
		if err != nil {
			return err
		}
		after := before
		if err := change(tx, &after); err != nil {
			return err
		}
		changed := !sameMember(before, after)
		if changed {
			tx.updateMember(before, after)
		}
		memberResult(tx, r, after, grants, changed)
		return nil
	})
}

func sortGrants(grants []policies.Grant) {
	slices.SortFunc(grants, func(a, b policies.Grant) int { return policies.CompareResources(a.Resource, b.Resource) })
}
