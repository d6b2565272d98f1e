package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/usher-authz/usher/admin/store"
)

const (
	queue = "mail"
	// maxAttempts is how often a mail is tried, at growing distances: two days in all.
	maxAttempts = 16
	// keptFor is how long a job that was given up can be seen and retried.
	keptFor = 30 * 24 * time.Hour
	// insertBatch is how many mails are queued by one statement.
	insertBatch = 1000
	// afterOthers is River's priority of mails that come in thousands: nobody waits for
	// them as one waits for an invitation.
	afterOthers = 2
)

// mailArgs is a notice as the queue has it.
type mailArgs struct {
	Notice store.Notice `json:"notice"`
}

// Kind is River's name for it.
func (mailArgs) Kind() string { return "mail" }

// InsertOpts are River's.
func (a mailArgs) InsertOpts() river.InsertOpts {
	o := river.InsertOpts{Queue: queue, MaxAttempts: maxAttempts}
	if a.Notice.Kind == store.NoticeChanged {
		o.Priority = afterOthers
	}
	return o
}

// Outbox queues notices. For any number of goroutines.
type Outbox struct {
	client *river.Client[pgx.Tx]
}

var _ store.Outbox = (*Outbox)(nil)

// NewOutbox makes an outbox, which needs no connection of its own.
func NewOutbox() (*Outbox, error) {
	client, err := newInserter(nil)
	return &Outbox{client}, err
}

// newInserter is a client that works no jobs.
func newInserter(pool *pgxpool.Pool) (*river.Client[pgx.Tx], error) {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet(nil)})
	if err != nil {
		return nil, fmt.Errorf("make a client of the job queue: %w", err)
	}
	return client, nil
}

// Post implements [store.Outbox].
func (o *Outbox) Post(ctx context.Context, tx pgx.Tx, notices []store.Notice) error {
	for some := range slices.Chunk(notices, insertBatch) {
		params := make([]river.InsertManyParams, len(some))
		for i, n := range some {
			params[i].Args = mailArgs{Notice: n}
		}
		if _, err := o.client.InsertManyTx(ctx, tx, params); err != nil {
			return err
		}
	}
	return nil
}
