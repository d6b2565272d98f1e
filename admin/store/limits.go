package store

import (
	"fmt"
	"time"

	"github.com/usher-authz/usher/policies"
)

// limitWindow is what the limits on invitations are counted over.
const limitWindow = time.Hour

const (
	// The n-th newest of the last hour, if there are as many. What a clock that was
	// turned back finds in its future does not count.
	sqlSentByOwner   = `select at from invitations_sent where owner = $1 and at > $2 and at <= $3 order by at desc offset $4 limit 1`
	sqlSentToAddress = `select at from invitations_sent where email_key = $1 and at > $2 and at <= $3 order by at desc offset $4 limit 1`
	sqlInsertSent    = `insert into invitations_sent (owner, email_key, at) values ($1, $2, $3)`
	// A few at a time, so that no write pays for all.
	sqlDropSent = `delete from invitations_sent where ctid in (select ctid from invitations_sent where at <= $1 order by at limit 100)`
)

// LimitError refuses an invitation: too many were sent in the last hour. Retry is how
// long it takes until one may be sent.
type LimitError struct {
	Limit int
	// Address says that the limit is that of the address, else it is the owner's.
	Address bool
	Retry   time.Duration
}

func (e *LimitError) Error() string {
	if e.Address {
		return fmt.Sprintf("this address was sent %d invitations within an hour", e.Limit)
	}
	return fmt.Sprintf("the account sent %d invitations within an hour", e.Limit)
}

// limit counts the invitations of a write, and refuses what is beyond a limit. It
// counts in the write's transaction, under the lock: so the limits hold for all admin
// servers together, and what is refused does not count.
func (tx *tx) limit() error {
	if tx.s.perOwner <= 0 && tx.s.perAddress <= 0 {
		return nil
	}
	for _, t := range tx.draft.touches {
		after, ok := t.after.(memberObject)
		if !ok || after.Invitation == nil {
			continue
		}
		before, _ := t.before.(memberObject)
		if kind := noticeOf(before.memberRow, after.memberRow, tx.now); kind != NoticeInvited && kind != NoticeResent {
			continue
		}
		if err := tx.limitOne(after.Owner, after.EmailKey); err != nil {
			return err
		}
	}
	return nil
}

func (tx *tx) limitOne(owner policies.AccountID, key string) error {
	since := tx.now.Add(-limitWindow)
	byOwner := readValues[time.Time](tx, sqlSentByOwner, owner, since, tx.now, max(tx.s.perOwner-1, 0))
	toAddress := readValues[time.Time](tx, sqlSentToAddress, key, since, tx.now, max(tx.s.perAddress-1, 0))
	if err := tx.flush(); err != nil {
		return err
	}
	if at, full := byOwner.one(); full && tx.s.perOwner > 0 {
		return &LimitError{Limit: tx.s.perOwner, Retry: at.Sub(since)}
	}
	if at, full := toAddress.one(); full && tx.s.perAddress > 0 {
		return &LimitError{Limit: tx.s.perAddress, Address: true, Retry: at.Sub(since)}
	}
	tx.queue.Queue(sqlDropSent, since)
	tx.queue.Queue(sqlInsertSent, owner, key, tx.now)
	return nil
}
