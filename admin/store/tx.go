package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// lockKey is the key of the advisory lock that orders all writers of a database:
// "usher" in ASCII.
const lockKey int64 = 0x7573686572

const (
	sqlBegin = `begin isolation level read committed`
	// The time-out frees the lock of a writer that was frozen or cut off.
	sqlLock     = `select pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '30s', true)`
	headColumns = `select platform, revision, hash, changed_at, system_identifier, timeline, policy_digest`
	sqlHead     = headColumns + ` from platform`
	sqlCommit   = `commit`
	sqlRollback = `rollback`
)

// head is the end of the chain.
type head struct {
	Platform         string
	Revision         policies.Revision
	Hash             []byte
	ChangedAt        time.Time
	SystemIdentifier string
	Timeline         int64
	PolicyDigest     []byte
}

// tx is one write's transaction. Reads and changes are queued, and go to the server
// together: reads at [tx.flush], changes with the next reads or with the COMMIT. So
// the lock, the head and the first reads are one round trip, and the changes, the log
// and the COMMIT another.
type tx struct {
	s      *Store
	ctx    context.Context //nolint:containedctx // a tx lives as long as the call that made it
	call   Call
	conn   *pgxpool.Conn
	id     uuid.UUID
	queue  *pgx.Batch
	locked bool
	onLock func() // once the lock is held
	heads  *query[head]
	head   head
	// now is the time of the revision: one for the whole transaction, taken under
	// the lock.
	now      time.Time
	draft    draft
	replayed *query[keptAnswer]
	// named is what the token is called that the call was made with.
	named *query[string]
	// next is the number of the revision, if it has any other than the head's plus one.
	next policies.Revision
	// made is the change that the commit makes, if it makes one revision.
	made *policies.Change
	// anyTimeline lets the write run on a database that was restored or failed over.
	anyTimeline bool
	// found is the platform before the write, once somebody asked for it.
	found *authz.State
	// owner is whose account the write is about.
	owner policies.AccountID
	// allowed says that a member's right to the write was found.
	allowed bool
	// removing is the member that the write removes.
	removing policies.CollaborationID
	trial    *Trial
	// answer encodes the result, to be kept for a repetition; nil without a key.
	answer func(outcome) (string, error)
}

// query is a read whose rows are there after the next flush.
type query[T any] struct{ rows []T }

// one is the first row, if there is one.
func (q *query[T]) one() (row T, ok bool) {
	if len(q.rows) == 0 {
		return row, false
	}
	return q.rows[0], true
}

// read queues a query whose columns are T's fields by name.
func read[T any](tx *tx, sql string, args ...any) *query[T] {
	return readRows(tx.queue, pgx.RowToStructByName[T], sql, args...)
}

// readValues queues a query of one column.
func readValues[T any](tx *tx, sql string, args ...any) *query[T] {
	return readRows(tx.queue, pgx.RowTo[T], sql, args...)
}

func readRows[T any](queue *pgx.Batch, collect pgx.RowToFunc[T], sql string, args ...any) *query[T] {
	q := &query[T]{}
	queue.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		q.rows, err = pgx.CollectRows(rows, collect)
		return err
	})
	return q
}

// change queues a change of rows together with the objects that it touches. It is
// the only way to change a row. What it reads back must not matter: it may run
// with the COMMIT.
func (tx *tx) change(sql string, args []any, touches ...touch) {
	tx.queue.Queue(sql, args...)
	tx.draft.add(touches...)
}

func newTx(ctx context.Context, s *Store, call Call, conn *pgxpool.Conn) *tx {
	return &tx{s: s, ctx: ctx, call: call, conn: conn, id: uuid.New(), onLock: func() {}}
}

// start queues what every write begins with.
func (tx *tx) start() {
	tx.queue = &pgx.Batch{}
	tx.queue.Queue(sqlBegin)
	tx.queue.Queue(sqlLock, lockKey)
	tx.heads = read[head](tx, sqlHead)
	tx.replayed, tx.named = &query[keptAnswer]{}, &query[string]{}
	if tx.call.Token != "" && tx.call.TokenName == "" {
		tx.named = readValues[string](tx, sqlTokenName, tx.call.Token)
	}
	if tx.call.IdempotencyKey != "" && !tx.call.DryRun {
		tx.replayed = read[keptAnswer](tx, sqlKeptAnswer, tx.call.caller(), tx.call.IdempotencyKey)
	}
}

// flush sends what is queued. After the first, the lock is held and the rows read
// are those of the present revision.
func (tx *tx) flush() error {
	if err := tx.send(tx.ctx); err != nil {
		return err
	}
	if tx.locked {
		return nil
	}
	tx.locked = true
	tx.onLock()
	head, ok := tx.heads.one()
	if !ok {
		return fmt.Errorf("the database has no platform: run `usher migrate`")
	}
	tx.head, tx.now = head, policies.NormalizeTime(tx.s.clock())
	if name, ok := tx.named.one(); ok {
		tx.call.TokenName = name
	}
	return tx.afterLock()
}

// afterLock stops a write that must not run, or not yet.
func (tx *tx) afterLock() error {
	if kept, ok := tx.replayed.one(); ok {
		return &replay{kept}
	}
	if tx.anyTimeline {
		return nil
	}
	identity, err := connectionIdentity(tx.ctx, tx.conn.Conn())
	if err != nil {
		return err
	}
	if !identity.is(tx.head) {
		return errOtherTimeline
	}
	return nil
}

func (tx *tx) send(ctx context.Context) error {
	batch := tx.queue
	tx.queue = &pgx.Batch{}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.conn.SendBatch(ctx, batch).Close(); err != nil {
		if tx.conn.Conn().IsClosed() {
			return fmt.Errorf("%w: %w", errConnectionClosed, err)
		}
		return err
	}
	return nil
}

// revision is the one that the transaction will have if it changes anything.
func (tx *tx) revision() policies.Revision {
	if tx.next != 0 {
		return tx.next
	}
	return tx.head.Revision + 1
}

// rollback ends the transaction without a trace, whatever became of the caller.
func (tx *tx) rollback() {
	if tx.conn.Conn().IsClosed() || tx.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), rollbackTimeout)
	defer cancel()
	if _, err := tx.conn.Exec(ctx, sqlRollback); err != nil {
		// The pool drops a connection that is not idle, and with it the transaction.
		tx.s.log.WarnContext(ctx, "a rollback failed", "error", err)
	}
}
