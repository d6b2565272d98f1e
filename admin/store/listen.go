package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlListen = `listen ` + Channel
	// PollInterval is the longest time between two calls of a listener's notify:
	// notifications are only a hint, which poolers and broken connections drop.
	PollInterval = time.Second
	// reconnectDelay is the pause after a connection that could not be had.
	reconnectDelay = 250 * time.Millisecond
)

// Word is what a listener hears.
type Word struct {
	// Revision was committed; 0: the log may have anything.
	Revision policies.Revision
	// Change is what was committed, if this store did it and it is one revision. It need
	// not be read from the log then.
	Change *policies.Change
}

// Listen calls notify soon after each commit, without a revision at least once every
// [PollInterval] and whenever it may have missed something, until ctx ends, whose error
// it returns. It keeps one connection for itself, and begins a new epoch when it finds
// that it was led to a database that was restored or failed over. notify is called by
// any goroutine, and should only wake up another one: after a commit of this store at
// once, and again when PostgreSQL has found the time to tell. Words may come in another
// order than commits.
func (s *Store) Listen(ctx context.Context, notify func(Word)) error {
	s.committed.Store(&notify)
	defer s.committed.CompareAndSwap(&notify, nil)
	for ctx.Err() == nil {
		err := s.listenOnce(ctx, notify)
		if ctx.Err() != nil {
			break
		}
		s.log.WarnContext(ctx, "the listener lost its connection, and reconnects", "error", err)
		notify(Word{})
		pause := time.NewTimer(reconnectDelay)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	return ctx.Err()
}

// listenOnce listens on one connection until that fails.
func (s *Store) listenOnce(ctx context.Context, notify func(Word)) error {
	if err := s.ensureEpoch(ctx); err != nil {
		return err
	}
	// A connection of its own, outside of the pool. Its waits end every second, by
	// the driver's plain deadlines: to cancel a statement that is not there would
	// cost a connection each time.
	config := s.pool.Config().ConnConfig
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return translate(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, sqlListen); err != nil {
		return translate(err)
	}
	for poll := time.Now(); ; {
		if !time.Now().Before(poll) { // at first: what was committed before we listened
			notify(Word{})
			poll = time.Now().Add(PollInterval)
		}
		wait, cancel := context.WithDeadline(ctx, poll)
		heard, err := conn.WaitForNotification(wait)
		timedOut := errors.Is(wait.Err(), context.DeadlineExceeded)
		cancel()
		switch {
		case err != nil && !timedOut:
			return translate(err)
		case conn.IsClosed():
			return errConnectionClosed
		case err == nil:
			revision, _ := policies.ParseRevision(heard.Payload) // 0 of what is none
			notify(Word{Revision: revision})
		}
	}
}
