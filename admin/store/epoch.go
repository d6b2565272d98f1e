package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	// The timeline is that of the log's end, not of the last checkpoint, which lags
	// behind a promotion. A standby has none yet.
	sqlIdentity = `select system_identifier::text as system_identifier,
    case when pg_is_in_recovery() then 0
         else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint end as timeline
from pg_control_system()`
	sqlSetIdentity = `update platform set system_identifier = $1, timeline = $2`
)

// identity is which database a connection leads to.
type identity struct {
	SystemIdentifier string
	Timeline         int64 // 0: a standby
}

func (i identity) is(h head) bool {
	return i.SystemIdentifier == h.SystemIdentifier && i.Timeline == h.Timeline
}

func onAnotherDatabase(h head, i identity) bool { return !i.is(h) }

// identityKey is where a connection remembers its identity: it keeps one for life,
// but for a standby that is promoted.
const identityKey = "usher_identity"

func connectionIdentity(ctx context.Context, conn *pgx.Conn) (identity, error) {
	data := conn.PgConn().CustomData()
	if known, ok := data[identityKey].(identity); ok {
		return known, nil
	}
	rows, err := conn.Query(ctx, sqlIdentity)
	if err != nil {
		return identity{}, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[identity])
	if err != nil {
		return identity{}, err
	}
	if found.Timeline != 0 {
		data[identityKey] = found
	}
	return found, nil
}

// epochItem is the audit item of a revision that begins an epoch.
type epochItem struct {
	Epoch            uint64 `json:"epoch"`
	SystemIdentifier string `json:"system_identifier"`
	Timeline         int64  `json:"timeline"`
}

func (e epochItem) key() objectKey {
	return objectKey{kind: kindEpoch, id: strconv.FormatUint(e.Epoch, 10)}
}
func (epochItem) body() any     { return nil }
func (e epochItem) public() any { return e }
func (epochItem) personal() any { return nil }

// NewEpoch begins a new epoch by hand: after a restore that the database does not
// show, such as a disk put back from a snapshot.
func (s *Store) NewEpoch(ctx context.Context, call Call) (policies.Revision, error) {
	if err := s.beginEpoch(ctx, call, 0, func(head, identity) bool { return true }); err != nil {
		return 0, err
	}
	h, err := s.Head(ctx)
	return h.Revision, err
}

// Witness begins a new epoch if the log is without what was committed once: it ends
// before the revision, or has another with its number. So the database was restored
// from an older backup, though nothing in it tells. The caller knows that the revision
// with this chain hash was.
func (s *Store) Witness(ctx context.Context, revision policies.Revision, hash policies.Hash) error {
	lost := func(h Header) bool {
		return h.Revision < revision || h.Revision == revision && h.Hash != hash
	}
	// Mostly it is the caller that has not seen all of the log: no need for the lock.
	if h, err := s.Head(ctx); err != nil || !lost(h) {
		return err
	}
	return s.beginEpoch(ctx, Call{Actor: Actor{Local: true}}, revision, func(h head, _ identity) bool { return lost(h.header()) })
}

// ensureEpoch begins a new epoch if the database is another than the one recorded.
func (s *Store) ensureEpoch(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	id, err := connectionIdentity(ctx, conn.Conn())
	var heads []head
	if err == nil {
		var rows pgx.Rows
		if rows, err = conn.Query(ctx, sqlHead); err == nil {
			heads, err = pgx.CollectRows(rows, pgx.RowToStructByName[head])
		}
	}
	conn.Release()
	switch {
	case err != nil:
		return translate(err)
	case len(heads) == 0:
		return errors.New("the database has no platform: run `usher migrate`")
	case id.Timeline == 0 || id.is(heads[0]):
		return nil
	}
	return s.beginEpoch(ctx, Call{Actor: Actor{Local: true}}, 0, onAnotherDatabase)
}

// beginEpoch writes the first revision of the next epoch, after the log's end and
// after a revision that was, if it is due by what the locked log says: another process
// may have begun it already.
func (s *Store) beginEpoch(ctx context.Context, call Call, after policies.Revision, due func(head, identity) bool) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	tx := newTx(ctx, s, Call{Actor: call.Actor}, conn)
	tx.anyTimeline = true
	tx.start()
	defer tx.rollback()
	if err := tx.flush(); err != nil {
		return translate(err)
	}
	id, err := connectionIdentity(ctx, conn.Conn())
	if err != nil {
		return translate(err)
	}
	if !due(tx.head, id) {
		return nil
	}
	after = max(after, tx.head.Revision)
	epoch := after.Epoch() + 1
	first := policies.NewRevision(epoch, 0)
	if first > policies.MaxRevision {
		return fmt.Errorf("there are no more epochs after %d", after.Epoch())
	}
	s.log.WarnContext(ctx, "a new epoch begins: the database was restored or failed over, or someone asked for it",
		"epoch", epoch, "after_revision", after, "log_ended_at", tx.head.Revision, "system_identifier", id.SystemIdentifier, "timeline", id.Timeline)
	tx.change(sqlSetIdentity, []any{id.SystemIdentifier, id.Timeline},
		made(epochItem{Epoch: epoch, SystemIdentifier: id.SystemIdentifier, Timeline: id.Timeline}))
	tx.next = first
	if _, err := s.finish(tx, "epoch.begin"); err != nil {
		return translate(err)
	}
	s.metrics.epochs.Inc()
	return nil
}
