package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/usher-authz/usher/admin/mail"
)

const (
	// workers is how many mails a process sends at once.
	workers = 4
	// jobTimeout bounds one attempt; a job that runs for rescueAfter was its process's
	// last, and is done again by another.
	jobTimeout  = time.Minute
	rescueAfter = 2 * time.Minute
	softStop    = 5 * time.Second
)

// Options are what [Jobs] need; all but Logger and Registerer are required.
type Options struct {
	// Pool is for the queue: two connections are held, some more needed now and then.
	Pool      *pgxpool.Pool
	Source    Source
	Sender    mail.Sender
	Templates *mail.Templates
	// PublicURL is what links begin with.
	PublicURL  string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Jobs works the queue in this process.
type Jobs struct {
	client *river.Client[pgx.Tx]
}

// New makes the workers, which do nothing until Start.
func New(o Options) (*Jobs, error) {
	m, err := newMetrics(o.Registerer, o.Pool)
	if err != nil {
		return nil, err
	}
	all := river.NewWorkers()
	if err := river.AddWorkerSafely(all, &worker{
		source: o.Source, sender: o.Sender, templates: o.Templates, publicURL: o.PublicURL, metrics: m,
	}); err != nil {
		return nil, fmt.Errorf("make the worker of mails: %w", err)
	}
	client, err := river.NewClient(riverpgxv5.New(o.Pool), &river.Config{
		Queues: map[string]river.QueueConfig{queue: {MaxWorkers: workers}}, Workers: all,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: rescueAfter, SoftStopTimeout: softStop,
		CancelledJobRetentionPeriod: keptFor, DiscardedJobRetentionPeriod: keptFor,
		// To rebuild an index takes the owner of the schema, which the admin server is not.
		ReindexerSchedule: river.NeverSchedule(),
		Logger:            quiet(o.Logger), ErrorHandler: &complaints{o.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("make the job queue: %w", err)
	}
	return &Jobs{client}, nil
}

// Start begins to work, until Stop.
func (j *Jobs) Start(ctx context.Context) error {
	if err := j.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	return nil
}

// Stop lets what is under way end, for some seconds; what does not is done by another
// process, or after the next start.
func (j *Jobs) Stop(ctx context.Context) error {
	err := j.client.Stop(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop the job queue: %w", err)
	}
	return nil
}

// complaints logs what a job failed of.
type complaints struct{ log *slog.Logger }

var _ river.ErrorHandler = (*complaints)(nil)

// HandleError is called after each failure, the last one too.
func (c *complaints) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	if c.log == nil {
		return nil
	}
	var cancelled *river.JobCancelError
	if job.Attempt >= job.MaxAttempts || errors.As(err, &cancelled) {
		c.log.ErrorContext(ctx, "a mail was given up: see usher mail list", "job", job.ID, "attempt", job.Attempt, "error", err)
		return nil
	}
	c.log.WarnContext(ctx, "a mail could not be sent and is tried again", "job", job.ID, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic is called where HandleError is not: a bug, which the job survives.
func (c *complaints) HandlePanic(ctx context.Context, job *rivertype.JobRow, cause any, trace string) *river.ErrorHandlerResult {
	if c.log != nil {
		c.log.ErrorContext(ctx, "a job panicked", "job", job.ID, "panic", cause, "stack", trace)
	}
	return nil
}

// quiet is River's logger: what it has to say of each job is said by complaints.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&warnings{log.Handler()})
}

// warnings lets only warnings and worse pass.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h *warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &warnings{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *warnings) WithGroup(name string) slog.Handler { return &warnings{h.Handler.WithGroup(name)} }
