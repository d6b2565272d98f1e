package store

import (
	"context"
	"time"

	"github.com/usher-authz/usher/policies"
)

const (
	// cleanBatch is how many rows of grants are cleaned away in one revision, about.
	cleanBatch = 500
	// actionCleanGrants is the log's name for it.
	actionCleanGrants = "grant.clean"

	sqlEndedThere = `select exists (select from grants where expires_at <= $1)`
	// Whole grants of those whose rows ended first.
	sqlEnded = `select owner, collaboration_id as member, resource_type as type, resource_id as id, array_agg(role_id order by role_id) as roles,
    min(expires_at) as ends
from grants where expires_at <= $1 and (owner, collaboration_id, resource_type, resource_id) in
    (select owner, collaboration_id, resource_type, resource_id from grants where expires_at <= $1 order by expires_at limit $2)
group by owner, collaboration_id, resource_type, resource_id order by owner, collaboration_id, resource_type, resource_id`
	// Their ETags change; but nobody changed them.
	sqlStampCleaned = `update collaborations set revision = $3 where owner = $1 and id = any ($2::text[])`
)

type endedRow struct {
	Owner  policies.AccountID
	Member policies.CollaborationID
	Type   policies.ResourceType
	ID     string
	Roles  []policies.RoleID
	Ends   time.Time
}

// CleanGrants deletes the grants that had ended at a time, in batches of one revision
// each, and tells how many. No decision changes by it: they had stopped to count. Any
// number of servers may call it at once: each grant is deleted once, and a call that
// finds nothing takes no lock.
func (s *Store) CleanGrants(ctx context.Context, ended time.Time) (int, error) {
	ended = policies.NormalizeTime(ended)
	cleaned := 0
	for {
		var there bool
		if err := s.pool.QueryRow(ctx, sqlEndedThere, ended).Scan(&there); err != nil || !there {
			return cleaned, translate(err)
		}
		n, err := s.cleanBatch(ctx, ended)
		if err != nil {
			return cleaned, err
		}
		cleaned += n
	}
}

func (s *Store) cleanBatch(ctx context.Context, ended time.Time) (int, error) {
	cleaned := 0
	_, err := s.write(ctx, Call{Actor: Actor{Local: true}}, actionCleanGrants, func(tx *tx) error {
		rows := read[endedRow](tx, sqlEnded, ended, cleanBatch)
		if err := tx.flush(); err != nil {
			return err
		}
		cleaned = len(rows.rows)
		members := map[policies.AccountID][]string{}
		for _, g := range rows.rows {
			members[g.Owner] = append(members[g.Owner], string(g.Member))
			ends := policies.NormalizeTime(g.Ends)
			tx.deleteGrants(g.Owner, g.Member, []policies.Grant{{
				Resource: policies.Resource{Type: g.Type, ID: g.ID}, Roles: g.Roles, ExpiresAt: &ends,
			}})
		}
		for owner, ids := range members {
			tx.change(sqlStampCleaned, []any{owner, ids, tx.revision()})
		}
		return nil
	})
	return cleaned, err
}
