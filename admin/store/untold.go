package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlInsertUntold = `insert into untold_changes (owner, revision, at) select unnest($1::text[]), $2, $3`
	// The owner whose first change has waited longest, but for those that failed.
	sqlDueUntold = `select owner, min(revision) as revision from untold_changes where owner <> all ($2::text[])
group by owner having min(at) <= $1 order by min(at), owner limit 1`
	sqlDropUntold = `delete from untold_changes where owner = $1 and revision <= $2`
	// One server tells at a time.
	sqlLockUntold = `select pg_try_advisory_xact_lock($1)`
	untoldLockKey = lockKey + 2

	sqlResourceNames = `select 'environment' as type, id, name from environments where owner = $1 and id = any ($2)
union all select 'group', id, name from groups where owner = $1 and id = any ($2)`
)

// quiet tells whether a write changes what is shared without anybody being told: an
// import, what follows from an account being written or deleted, and what time does:
// nobody decided that.
func quiet(action string) bool {
	return action == actionImport || action == actionCleanGrants || strings.HasPrefix(action, "account.")
}

// Quiet tells whether nobody is told of what was changed by an entry's action.
func (e Entry) Quiet() bool { return quiet(e.Action) }

// keepUntold takes down that members of the owners may have to be told of a change.
// Whether they gained or lost anything is found out later, out of the write's way.
func (tx *tx) keepUntold(action string, r *record) {
	if tx.s.outbox == nil || quiet(action) {
		return
	}
	var owners []policies.AccountID
	for _, o := range r.touched {
		switch o.Kind { //nolint:exhaustive // members' states are told by notices of their own
		case policies.KindGrant, policies.KindRole, policies.KindPolicy, policies.KindGroup, policies.KindEnvironment:
			if !slices.Contains(owners, o.Owner) {
				owners = append(owners, o.Owner)
			}
		}
	}
	if len(owners) > 0 {
		tx.queue.Queue(sqlInsertUntold, owners, tx.revision(), tx.now)
	}
}

// News makes the notices that tell members of owner what its changes since a revision
// mean to them, that one included, and says up to which it looked.
type News func(ctx context.Context, owner policies.AccountID, first policies.Revision) (notices []Notice, last policies.Revision, err error)

// TellNews queues the notices of the owners whose first untold change is as old as
// before, each owner's in one transaction with the taking down that it was told. So
// each change is told once, however many servers call it, and by whom: a second one
// finds nothing to do. An owner for whom news fails is tried again by the next call.
func (s *Store) TellNews(ctx context.Context, before time.Time, news News) error {
	var errs []error
	failed := []policies.AccountID{}
	for ctx.Err() == nil {
		owner, err := s.tellOne(ctx, before, failed, news)
		if err != nil {
			errs = append(errs, err)
			if owner != "" && ctx.Err() == nil {
				s.metrics.untold.Inc()
			}
			failed = append(failed, owner)
		}
		if owner == "" {
			break
		}
	}
	return errors.Join(errs...)
}

// tellOne tells the news of one owner; of none where nothing is due, or where another
// server is at it.
func (s *Store) tellOne(ctx context.Context, before time.Time, but []policies.AccountID, news News) (policies.AccountID, error) {
	var due struct {
		Owner    policies.AccountID
		Revision policies.Revision
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		free := false
		if err := tx.QueryRow(ctx, sqlLockUntold, untoldLockKey).Scan(&free); err != nil || !free {
			return err
		}
		err := tx.QueryRow(ctx, sqlDueUntold, policies.NormalizeTime(before), but).Scan(&due.Owner, &due.Revision)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		notices, last, err := news(ctx, due.Owner, due.Revision)
		if err != nil {
			return fmt.Errorf("tell the news of owner %q: %w", due.Owner, err)
		}
		if len(notices) > 0 {
			if err := s.outbox.Post(ctx, tx, notices); err != nil {
				return fmt.Errorf("queue the news of owner %q: %w", due.Owner, err)
			}
		}
		tag, err := tx.Exec(ctx, sqlDropUntold, due.Owner, last)
		if err == nil && tag.RowsAffected() == 0 { // it would be due for ever
			return fmt.Errorf("the news of owner %q end at revision %d, before they begin", due.Owner, last)
		}
		return err
	})
	return due.Owner, translate(err)
}

// ResourceNames are the names of those environments and groups of owner that are there.
func (s *Store) ResourceNames(ctx context.Context, owner policies.AccountID, resources []policies.Resource) (map[policies.Resource]string, error) {
	ids := make([]string, len(resources))
	for i, r := range resources {
		ids[i] = r.ID
	}
	rows, err := getAll[struct {
		Type policies.ResourceType
		ID   string
		Name string
	}](ctx, s, sqlResourceNames, owner, ids)
	names := make(map[policies.Resource]string, len(rows))
	for _, r := range rows {
		names[policies.Resource{Type: r.Type, ID: r.ID}] = r.Name
	}
	return names, err
}
