package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// Mail is a mail in the queue that was not sent yet.
type Mail struct {
	ID       int64
	State    string // available, scheduled, running, retryable, discarded, cancelled
	Kind     string
	Owner    string
	Member   string // the collaboration's id
	Attempts int
	Created  time.Time
	// Next is when it is tried again; zero once it was given up.
	Next time.Time
	// Error is what the last attempt failed of; empty before the first.
	Error string
}

// ErrNoMail says that the queue has no such mail.
var ErrNoMail = errors.New("the queue has no such mail: see usher mail list")

// Operator looks after the queue from outside of the admin servers.
type Operator struct{ client *river.Client[pgx.Tx] }

// NewOperator makes one on a database's pool.
func NewOperator(pool *pgxpool.Pool) (*Operator, error) {
	client, err := newInserter(pool)
	return &Operator{client}, err
}

// listPage is how many jobs are read at a time.
const listPage = 1000

// List gives the mails that were not sent, the oldest first, one by one to show.
func (o *Operator) List(ctx context.Context, show func(Mail) error) error {
	params := river.NewJobListParams().Queues(queue).First(listPage).
		States(rivertype.JobStateAvailable, rivertype.JobStateScheduled, rivertype.JobStateRunning, rivertype.JobStateRetryable,
			rivertype.JobStateDiscarded, rivertype.JobStateCancelled).
		OrderBy(river.JobListOrderByID, river.SortOrderAsc)
	for {
		page, err := o.client.JobList(ctx, params)
		if err != nil {
			return fmt.Errorf("list the queue: %w", err)
		}
		for _, job := range page.Jobs {
			m, err := mailOf(job)
			if err != nil {
				return err
			}
			if err := show(m); err != nil {
				return err
			}
		}
		if len(page.Jobs) < listPage {
			return nil
		}
		params = params.After(page.LastCursor)
	}
}

func mailOf(job *rivertype.JobRow) (Mail, error) {
	var args mailArgs
	if err := json.Unmarshal(job.EncodedArgs, &args); err != nil {
		return Mail{}, fmt.Errorf("decode job %d: %w", job.ID, err)
	}
	m := Mail{
		ID: job.ID, State: string(job.State), Kind: string(args.Notice.Kind), Owner: string(args.Notice.Owner), Member: string(args.Notice.Member),
		Attempts: job.Attempt, Created: job.CreatedAt.UTC(),
	}
	if job.FinalizedAt == nil {
		m.Next = job.ScheduledAt.UTC()
	}
	if n := len(job.Errors); n > 0 {
		m.Error = job.Errors[n-1].Error
	}
	return m, nil
}

// Retry sends a mail now that waits or was given up, once more at least.
func (o *Operator) Retry(ctx context.Context, id int64) error {
	return o.change(ctx, id, o.client.JobRetry)
}

// Discard takes a mail out of the queue: it is not sent.
func (o *Operator) Discard(ctx context.Context, id int64) error {
	return o.change(ctx, id, o.client.JobDelete)
}

func (o *Operator) change(ctx context.Context, id int64, do func(context.Context, int64) (*rivertype.JobRow, error)) error {
	job, err := o.client.JobGet(ctx, id)
	if err == nil && (job.Queue != queue || job.State == rivertype.JobStateCompleted) {
		return ErrNoMail
	}
	if err == nil {
		_, err = do(ctx, id)
	}
	if errors.Is(err, rivertype.ErrNotFound) {
		return ErrNoMail
	}
	if errors.Is(err, rivertype.ErrJobRunning) {
		return fmt.Errorf("mail %d is being sent right now: %w", id, err)
	}
	return err
}
