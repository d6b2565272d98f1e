package store

import (
	"context"

	"github.com/usher-authz/usher/policies"
)

// expireBatch is how many invitations end in one revision.
const expireBatch = 100

const (
	sqlExpiredThere = `select exists (select from collaborations where status = 'pending' and invitation_expires_at <= $1)`
	sqlExpired      = selectMembers + ` where c.status = 'pending' and c.invitation_expires_at <= $1 order by c.invitation_expires_at, c.owner, c.id limit $2`
	// Links that open nothing, a while after they were made.
	sqlDropLinks = `delete from invitation_links where ctid in (select l.ctid from invitation_links l
where l.created_at < $1 and not exists
    (select from collaborations c where c.owner = l.owner and c.id = l.collaboration_id and c.invitation = l.invitation)
limit 1000)`
)

// ExpireInvitations writes down which invitations the clock has ended, in batches of
// one revision each, and forgets links that open nothing any more. It tells how many
// ended. Any number of servers may call it at once: each invitation ends once, and a
// call that finds nothing due takes no lock and changes nothing.
func (s *Store) ExpireInvitations(ctx context.Context) (int, error) {
	ended := 0
	for {
		var due bool
		if err := s.pool.QueryRow(ctx, sqlExpiredThere, policies.NormalizeTime(s.clock())).Scan(&due); err != nil {
			return ended, translate(err)
		}
		if !due {
			break
		}
		n, err := s.expireBatch(ctx)
		if err != nil {
			return ended, err
		}
		ended += n
	}
	_, err := s.pool.Exec(ctx, sqlDropLinks, policies.NormalizeTime(s.clock()).Add(-s.ttl))
	return ended, translate(err)
}

func (s *Store) expireBatch(ctx context.Context) (int, error) {
	ended := 0
	_, err := s.write(ctx, Call{Actor: Actor{Local: true}}, "invitation.expire", func(tx *tx) error {
		if err := tx.flush(); err != nil { // the time is that under the lock
			return err
		}
		due := read[memberRow](tx, sqlExpired, tx.now, expireBatch)
		if err := tx.flush(); err != nil {
			return err
		}
		ended = len(due.rows)
		for _, m := range due.rows {
			next := m
			var err error
			if next.Status, err = policies.Next(m.ID, m.Status, policies.EventExpire); err != nil {
				return err
			}
			endInvitation(&next)
			tx.updateMember(m, next)
		}
		return nil
	})
	return ended, err
}
