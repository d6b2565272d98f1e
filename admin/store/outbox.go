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
	// NoticeChanged tells what a bundle of edits changed for a member, see [Store.TellNews].
	NoticeChanged NoticeKind = "changed"
)

// NoticeKinds is every kind.
var NoticeKinds = []NoticeKind{
	NoticeInvited, NoticeResent, NoticeAccepted, NoticeRejected, NoticeLeft, NoticeSuspended, NoticeActivated, NoticeRemoved, NoticeChanged,
}

// Notice says that the other side of a collaboration is to be told of a change. It
// holds ids and names of things, and neither addresses nor names of persons nor
// secrets: these are looked up when it is told.
type Notice struct {
	Kind   NoticeKind               `json:"kind"`
	Owner  policies.AccountID       `json:"owner"`
	Member policies.CollaborationID `json:"member"`
	// Invitation is the one that the notice is of, if it is of one.
	Invitation string `json:"invitation,omitzero"`
	// By is the account that made the change; empty for the platform itself.
	By policies.AccountID `json:"by,omitzero"`
	// Also are further accounts that had a part in a bundle of changes.
	Also []policies.AccountID `json:"also,omitzero"`
	// Changes are what a bundle changed, and More is how many there are beside; if both
	// are empty, it is too much to tell one by one.
	Changes []SharedChange `json:"changes,omitzero"`
	More    int            `json:"more,omitzero"`
}

// SharedChange is what changed for a member on one resource.
type SharedChange struct {
	Resource policies.Resource `json:"resource"`
	Name     string            `json:"name,omitzero"`
	// Was and Is are the names of the roles that counted, and that count.
	Was []string `json:"was,omitzero"`
	Is  []string `json:"is,omitzero"`
	// Gains and Loses say whether the member may do more than before, and less.
	Gains bool `json:"gains,omitzero"`
	Loses bool `json:"loses,omitzero"`
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
	notices := tx.draft.notices(action, tx.call.Account, tx.now)
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
func (d *draft) notices(action string, by policies.AccountID, now time.Time) []Notice {
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
		if kind := noticeOf(before.memberRow, after.memberRow, now); kind != "" {
			n := Notice{Kind: kind, Owner: after.Owner, Member: after.ID, By: by}
			if after.Invitation != nil {
				n.Invitation = *after.Invitation
			}
			notices = append(notices, n)
		}
	}
	return notices
}

// noticeOf is what a change of a record at a time tells; empty: nothing.
func noticeOf(before, after memberRow, now time.Time) NoticeKind {
	if before.Status == after.Status {
		switch {
		case after.Status != policies.StatusPending || samePointer(before.Invitation, after.Invitation):
			return ""
		case before.effectiveStatus(now) == policies.StatusExpired: // which nobody wrote down yet
			return NoticeInvited
		}
		return NoticeResent
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
	sqlAccountsByID      = `select id, email, email_key, display_name, created_at, revision from accounts where id = any ($1::text[]) order by id`
)

// Told is what a notice is told with: everything as it is now.
type Told struct {
	Collaboration Collaboration
	Member        policies.Member
	// Invitation is the present one, and ExpiresAt its end; empty without one.
	Invitation string
	ExpiresAt  time.Time
	// By are those who made the change, and are known; none if that is the platform.
	By []policies.Account
}

// Tell finds what a notice is told with. A NotFoundError says that there is nobody
// to tell any more.
func (s *Store) Tell(ctx context.Context, n Notice) (Told, error) {
	batch := &pgx.Batch{}
	now := policies.NormalizeTime(s.clock())
	members := readRows(batch, pgx.RowToStructByName[memberRow], sqlMember, n.Owner, n.Member)
	shared := readRows(batch, pgx.RowToStructByName[collaborationRow], sqlToldCollaboration, n.Owner, now, n.Member)
	by := readRows(batch, pgx.RowToStructByName[accountRow], sqlAccountsByID, append([]policies.AccountID{n.By}, n.Also...))
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
	for _, a := range by.rows {
		told.By = append(told.By, a.account())
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
