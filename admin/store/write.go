package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/usher-authz/usher/policies"
)

const (
	rollbackTimeout = 5 * time.Second
	// commitTimeout bounds a COMMIT, which the caller cannot cancel.
	commitTimeout = 15 * time.Second
	// defaultLookupTimeout bounds the search for what became of one: long enough for
	// a server to restart.
	defaultLookupTimeout = 15 * time.Second
	lookupInterval       = 100 * time.Millisecond
	// maxAttempts is how often a write is run that loses against others.
	maxAttempts = 5
)

// Channel is where a commit is announced; the payload is the revision in decimal.
const Channel = "usher_revision"

const (
	sqlInsertRevision = `insert into revisions
    (revision, at, objects, audit_hash, hash, action, token, token_name, account, local, request_id, owners, address, address_salt, address_hash,
     transaction, latest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, greatest($2, (select latest from revisions where revision = $17)))`
	sqlInsertChange = `insert into changes
    (owner, revision, ordinal, kind, id, before, after, personal, personal_salt, personal_hash)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	sqlAdvanceHead     = `update platform set revision = $1, hash = $2, changed_at = $3`
	sqlNotify          = `select pg_notify('` + Channel + `', $1)`
	sqlFindTransaction = `select max(revision) from revisions where transaction = $1`
)

var (
	// errOtherTimeline stops a write on a database that was restored or failed over.
	errOtherTimeline = errors.New("the database is on another timeline than the one recorded")
	errNothingFound  = errors.New("the transaction is not in the log")
)

// outcome is what became of a transaction.
type outcome struct {
	revision policies.Revision // of effect, or the present one
	changed  bool
	trial    *Trial // of a dry run that would change something
}

// write runs fn in one transaction, as the package comment says, and again when it
// lost against another one: fn must not keep anything from an earlier run. action
// is the log's name for what was called.
func (s *Store) write(ctx context.Context, call Call, action string, fn func(*tx) error) (outcome, error) {
	return s.writeTx(ctx, call, func(tx *tx) (outcome, error) {
		if err := fn(tx); err != nil {
			return outcome{}, err
		}
		if !tx.locked { // a write that reads nothing
			if err := tx.flush(); err != nil {
				return outcome{}, err
			}
		}
		return s.finish(tx, action)
	})
}

// writeTx runs a transaction, and again when it lost against another one.
func (s *Store) writeTx(ctx context.Context, call Call, run func(*tx) (outcome, error)) (outcome, error) {
	start := time.Now()
	result, err := s.writeRepeatedly(ctx, call.identified(), run)
	s.metrics.countRefused(err)
	s.metrics.writes.WithLabelValues(outcomeLabel(result, err)).Observe(time.Since(start).Seconds())
	return result, err
}

func outcomeLabel(result outcome, err error) string {
	var unavailable *UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return "unavailable"
	case err != nil:
		return "refused"
	case result.changed:
		return "changed"
	default:
		return "unchanged"
	}
}

func (s *Store) writeRepeatedly(ctx context.Context, call Call, run func(*tx) (outcome, error)) (outcome, error) {
	select {
	case s.writers <- struct{}{}:
		defer func() { <-s.writers }()
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	for attempt := 1; ; attempt++ {
		result, err := s.attempt(ctx, call, run)
		switch {
		case err == nil:
			return result, nil
		case attempt == maxAttempts || ctx.Err() != nil:
			return outcome{}, s.finalError(ctx, err)
		case errors.Is(err, errOtherTimeline):
			if err := s.beginEpoch(ctx, call, 0, onAnotherDatabase); err != nil {
				return outcome{}, err
			}
		case retryable(err):
			s.metrics.retries.Inc()
		default:
			return outcome{}, s.finalError(ctx, err)
		}
	}
}

// finalError is what the caller gets: its own cancellation rather than what that
// did to the statement.
func (s *Store) finalError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || !unavailable.OutcomeUnknown {
			return ctx.Err()
		}
	}
	return translate(err)
}

// attempt is one transaction.
func (s *Store) attempt(ctx context.Context, call Call, run func(*tx) (outcome, error)) (outcome, error) {
	start := time.Now()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Release()
	tx := newTx(ctx, s, call, conn)
	tx.onLock = func() { s.metrics.lockWait.Observe(time.Since(start).Seconds()) }
	tx.start()
	defer tx.rollback()
	return run(tx)
}

// finish ends a transaction that holds the lock: with a revision, if it changes
// anything.
func (s *Store) finish(tx *tx, action string) (outcome, error) {
	record, err := tx.draft.encode(s.rand)
	if err != nil {
		return outcome{}, err
	}
	if err := tx.settle(record); err != nil {
		return outcome{}, err
	}
	if tx.call.DryRun {
		return tx.try()
	}
	if record == nil {
		return s.unchanged(tx)
	}
	if err := record.seal(action, tx.now, tx.call.Actor, s.rand); err != nil {
		return outcome{}, err
	}
	if err := tx.limit(); err != nil {
		return outcome{}, err
	}
	if err := tx.post(action); err != nil {
		return outcome{}, err
	}
	tx.keepUntold(action, record)
	tx.log(action, record)
	done, err := s.commit(tx)
	if err == nil {
		s.metrics.countInvitations(&tx.draft, tx.now)
	}
	return done, err
}

// unchanged ends a transaction that has nothing to say to the log. Only an answer
// that must be kept for a repetition is committed.
func (s *Store) unchanged(tx *tx) (outcome, error) {
	present := outcome{revision: tx.head.Revision}
	if tx.answer == nil {
		return present, nil
	}
	tx.queue = &pgx.Batch{} // changes that change nothing
	if err := tx.keepAnswer(present); err != nil {
		return outcome{}, err
	}
	tx.queue.Queue(sqlCommit)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), commitTimeout)
	defer cancel()
	return present, tx.send(ctx)
}

// log queues the revision: its rows, the head and the announcement.
func (tx *tx) log(action string, r *record) {
	before, actor := tx.head.Revision, tx.call.Actor
	c := tx.chain(r)
	tx.made = &c
	tx.queue.Queue(sqlInsertRevision, c.Revision, c.Time, string(c.Objects), c.AuditHash[:], c.Hash[:], action,
		actor.Token, actor.TokenName, actor.Account, actor.Local, actor.RequestID, r.owners(), r.address, r.addressSalt, r.addressHash, tx.id, before)
	for i, e := range r.entries {
		tx.queue.Queue(sqlInsertChange, e.owner, tx.head.Revision, i, e.kind, e.id, e.before, e.after, e.personal, e.personalSalt, e.personalHash)
	}
	tx.queueHead()
}

// chain puts a revision at the end of the chain, as the change that it gives.
func (tx *tx) chain(r *record) policies.Change {
	revision := tx.revision()
	hash := policies.ChainHash(policies.Hash(tx.head.Hash), revision, sha256.Sum256(r.objects), r.auditHash)
	tx.head.Revision, tx.head.Hash = revision, hash[:]
	return policies.Change{Revision: revision, Time: tx.now, Objects: r.objects, AuditHash: r.auditHash, Hash: hash}
}

// queueHead writes the end of the chain, and announces it.
func (tx *tx) queueHead() {
	tx.queue.Queue(sqlAdvanceHead, tx.head.Revision, tx.head.Hash, tx.now)
	tx.queue.Queue(sqlNotify, tx.head.Revision.String())
}

// commit sends the changes, the log and the COMMIT, out of the caller's reach: once
// they are on their way, only the server knows whether they count.
func (s *Store) commit(tx *tx) (outcome, error) {
	done := outcome{revision: tx.head.Revision, changed: true}
	if err := tx.keepAnswer(done); err != nil {
		return outcome{}, err
	}
	tx.queue.Queue(sqlCommit)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), commitTimeout)
	defer cancel()
	err := tx.send(ctx)
	if err == nil {
		if notify := s.committed.Load(); notify != nil {
			(*notify)(Word{Revision: done.revision, Change: tx.made})
		}
		return done, nil
	}
	if outcomeKnown(err) {
		return outcome{}, err
	}
	switch revision, lookupErr := s.lookUp(context.WithoutCancel(tx.ctx), tx.id); {
	case lookupErr == nil:
		s.metrics.unknown.WithLabelValues("committed").Inc()
		return outcome{revision: revision, changed: true}, nil
	case errors.Is(lookupErr, errNothingFound):
		s.metrics.unknown.WithLabelValues("rolled_back").Inc()
		return outcome{}, &UnavailableError{Err: err}
	default:
		s.metrics.unknown.WithLabelValues("unknown").Inc()
		return outcome{}, &UnavailableError{OutcomeUnknown: true, Err: errors.Join(err, lookupErr)}
	}
}

// outcomeKnown tells whether err, of a batch that ends with COMMIT, says that it was
// not committed: the server refused a statement, and lives. A server that goes down
// (FATAL) may have committed before it said so.
func outcomeKnown(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

// lookUp finds the last revision of a transaction whose connection broke. It takes
// the lock first: a transaction that still runs somewhere holds it.
func (s *Store) lookUp(ctx context.Context, id uuid.UUID) (policies.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookupTimeout)
	defer cancel()
	ticker := time.NewTicker(lookupInterval)
	defer ticker.Stop()
	for {
		revision, err := s.lookUpOnce(ctx, id)
		if err == nil || errors.Is(err, errNothingFound) {
			return revision, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("look up the transaction: %w", err)
		case <-ticker.C:
		}
	}
}

func (s *Store) lookUpOnce(ctx context.Context, id uuid.UUID) (policies.Revision, error) {
	var found *policies.Revision
	batch := &pgx.Batch{}
	batch.Queue(sqlBegin)
	batch.Queue(sqlLock, lockKey)
	batch.Queue(sqlFindTransaction, id).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
	batch.Queue(sqlCommit)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return 0, err
	}
	if found == nil {
		return 0, errNothingFound
	}
	return *found, nil
}
