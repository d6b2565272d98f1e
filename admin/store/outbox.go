package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/usher-authz/usher/policies"
)

// NoticeKind is what a [Notice] tells.
type NoticeKind string

// The kinds of notice: to the member, but for accepted, rejected and left, which go
// to the owner.
const (
	NoticeInvited   NoticeKind = "invited"
	NoticeResent    NoticeKind = "resent"
	NoticeAccepted  NoticeKind = "accepted"
	NoticeRejected  NoticeKind = "rejected"
	NoticeLeft      NoticeKind = "left"
	NoticeSuspended NoticeKind = "suspended"
	NoticeActivated NoticeKind = "activated"
	NoticeRemoved   NoticeKind = "removed"
)

// NoticeKinds is every kind.
var NoticeKinds = []NoticeKind{
	NoticeInvited, NoticeResent, NoticeAccepted, NoticeRejected, NoticeLeft, NoticeSuspended, NoticeActivated, NoticeRemoved,
}

// Notice says that the other side of a collaboration is to be told of a change. It
// holds ids, and neither addresses nor secrets: these are looked up when it is told.
type Notice struct {
	Kind   NoticeKind               `json:"kind"`
	Owner  policies.AccountID       `json:"owner"`
	Member policies.CollaborationID `json:"member"`
	// Invitation is the one that the notice is of, if it is of one.
	Invitation string `json:"invitation,omitzero"`
	// By is the account that made the change; empty for the platform itself.
	By policies.AccountID `json:"by,omitzero"`
}

// Outbox takes notices in the transaction of the change that they tell of: so none
// is lost, and none tells of what was rolled back.
type Outbox interface {
	Post(ctx context.Context, tx pgx.Tx, notices []Notice) error
}

// post hands the notices of a write to the outbox.
func (tx *tx) post(action string) error {
	if tx.s.outbox == nil {
		return nil
	}
	notices := tx.draft.notices(action, tx.call.Account)
	if len(notices) == 0 {
		return nil
	}
	if err := tx.s.outbox.Post(tx.ctx, openTx{conn: tx.conn.Conn()}, notices); err != nil {
		return fmt.Errorf("queue the notices of a change: %w", err)
	}
	return nil
}

// notices are what the changes of collaborations in d tell the other side. What
// follows from an account being written or deleted tells nobody anything: nobody
// decided it.
func (d *draft) notices(action string, by policies.AccountID) []Notice {
	if strings.HasPrefix(action, "account.") {
		return nil
	}
	var notices []Notice
	for _, t := range d.touches {
		after, ok := t.after.(memberObject)
		if !ok {
			continue
		}
		before, _ := t.before.(memberObject)
		if kind := noticeOf(before.memberRow, after.memberRow); kind != "" {
			n := Notice{Kind: kind, Owner: after.Owner, Member: after.ID, By: by}
			if after.Invitation != nil {
				n.Invitation = *after.Invitation
			}
			notices = append(notices, n)
		}
	}
	return notices
}

// noticeOf is what a change of a record tells; empty: nothing.
func noticeOf(before, after memberRow) NoticeKind {
	if before.Status == after.Status {
		if after.Status == policies.StatusPending && !samePointer(before.Invitation, after.Invitation) {
			return NoticeResent
		}
		return ""
	}
	switch after.Status { //nolint:exhaustive // what time does is nobody's message
	case policies.StatusPending:
		return NoticeInvited
	case policies.StatusActive:
		if before.Status == policies.StatusSuspended {
			return NoticeActivated
		}
		return NoticeAccepted
	case policies.StatusRejected:
		return NoticeRejected
	case policies.StatusLeft:
		return NoticeLeft
	case policies.StatusSuspended:
		return NoticeSuspended
	case policies.StatusRemoved:
		return NoticeRemoved
	}
	return ""
}

const (
	// $2 is now, see selectCollaborations.
	sqlToldCollaboration = selectCollaborations + ` where c.owner = $1 and c.id = $3`
)

// Told is what a notice is told with: everything as it is now.
type Told struct {
	Collaboration Collaboration
	Member        policies.Member
	// Invitation is the present one, and ExpiresAt its end; empty without one.
	Invitation string
	ExpiresAt  time.Time
	// By is who made the change; nil if that is the platform or an account that is gone.
	By *policies.Account
}

// Tell finds what a notice is told with. A NotFoundError says that there is nobody
// to tell any more.
func (s *Store) Tell(ctx context.Context, n Notice) (Told, error) {
	batch := &pgx.Batch{}
	now := policies.NormalizeTime(s.clock())
	members := readRows(batch, pgx.RowToStructByName[memberRow], sqlMember, n.Owner, n.Member)
	shared := readRows(batch, pgx.RowToStructByName[collaborationRow], sqlToldCollaboration, n.Owner, now, n.Member)
	by := readRows(batch, pgx.RowToStructByName[accountRow], sqlAccount, n.By)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Told{}, translate(err)
	}
	m, there := members.one()
	row, still := shared.one()
	if !there || !still {
		return Told{}, &policies.NotFoundError{Kind: "member", ID: string(n.Member)}
	}
	var told Told
	var errs [2]error
	told.Member, errs[0] = m.member()
	told.Collaboration, errs[1] = row.collaboration()
	if m.Invitation != nil && m.effectiveStatus(now) == policies.StatusPending {
		told.Invitation, told.ExpiresAt = *m.Invitation, policies.NormalizeTime(*m.InvitationExpiresAt)
	}
	if a, known := by.one(); known {
		account := a.account()
		told.By = &account
	}
	return told, errors.Join(errs[:]...)
}

// openTx lends the transaction of a write, which was begun as a statement, to what
// wants the driver's. It cannot end it.
type openTx struct{ conn *pgx.Conn }

var _ pgx.Tx = openTx{}

var errLentTx = errors.New("the transaction is lent, and its end is the store's")

func (t openTx) Begin(context.Context) (pgx.Tx, error) { return nil, errLentTx }
func (t openTx) Commit(context.Context) error          { return errLentTx }
func (t openTx) Rollback(context.Context) error        { return errLentTx }
func (t openTx) LargeObjects() pgx.LargeObjects        { return pgx.LargeObjects{} }
func (t openTx) Conn() *pgx.Conn                       { return t.conn }

func (t openTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.conn.Exec(ctx, sql, args...)
}

func (t openTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, sql, args...)
}

func (t openTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.conn.QueryRow(ctx, sql, args...)
}

func (t openTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.conn.SendBatch(ctx, b)
}

func (t openTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return t.conn.CopyFrom(ctx, table, columns, rows)
}

func (t openTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return t.conn.Prepare(ctx, name, sql)
}
