package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const (
	tailBatch   = 256                    // changes read at once
	tailTimeout = 10 * time.Second       // for one look at the log
	loadTimeout = 10 * time.Minute       // for a snapshot of the platform
	tailPause   = 200 * time.Millisecond // after listening failed
	tailWords   = 256                    // of commits, that wait to be heard; for what is beyond the log is read
	// staleAfter is how long ago the database may last have answered for the server
	// to be ready; it is asked once a second.
	staleAfter = 5 * time.Second
)

// tail keeps the engine at the end of the log.
type tail struct {
	store  *store.Store
	engine *authz.Engine
	recent *recent
	log    *slog.Logger
	clock  func() time.Time

	wake    chan struct{} // the log is to be read
	words   chan store.Word
	reached atomic.Int64 // when the database last answered, Unix nanoseconds
	failing bool         // of run's goroutine: one log line for each outage

	rebuilds, failures prometheus.Counter
}

func newTail(s *store.Store, e *authz.Engine, o Options) (*tail, error) {
	t := &tail{
		store: s, engine: e, recent: &recent{}, log: o.Logger, clock: o.Clock, wake: make(chan struct{}, 1), words: make(chan store.Word, tailWords),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_admin_tail_rebuilds_total",
			Help: "How often the engine began anew with a snapshot; more than once for each epoch is bad.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_admin_tail_failures_total",
			Help: "How often the log could not be read or applied; growing is bad.",
		}),
	}
	for _, c := range []prometheus.Collector{t.rebuilds, t.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_admin_tail_age_seconds",
		Help: "How long ago the database last answered the tail; beyond a few seconds is bad.",
	}, func() float64 { return t.age().Seconds() })} {
		if err := o.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the tail: %w", err)
		}
	}
	return t, nil
}

// age is how long ago the database last answered.
func (t *tail) age() time.Duration {
	return max(0, t.clock().Sub(time.Unix(0, t.reached.Load())))
}

// run follows the log until ctx ends.
func (t *tail) run(ctx context.Context) {
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		t.listen(ctx)
	}()
	for {
		select {
		case <-ctx.Done():
			<-listening
			return
		case w := <-t.words:
			t.hear(ctx, w)
		case <-t.wake:
			t.outcome(ctx, t.catchUp(ctx))
		}
	}
}

// listen passes the store's words on.
func (t *tail) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := t.store.Listen(ctx, func(w store.Word) {
			select {
			case t.words <- w:
				return
			default:
			}
			select {
			case t.wake <- struct{}{}:
			default: // a wake waits already
			}
		})
		if ctx.Err() != nil {
			return
		}
		t.log.WarnContext(ctx, "listening to the database ended, and begins anew", "error", err)
		pause := time.NewTimer(tailPause)
		select {
		case <-ctx.Done():
			pause.Stop()
		case <-pause.C:
		}
	}
}

// hear takes a commit's change as it was told, if it is the next: to read it from the
// log would cost two ways to the database before any sidecar hears of it. Everything
// else that is new is read from there.
func (t *tail) hear(ctx context.Context, w store.Word) {
	state := t.engine.State()
	switch {
	case state != nil && w.Revision != 0 && w.Revision <= state.Revision():
		return // it was there before this word of it
	case state != nil && w.Change != nil && w.Change.Follows(state.Revision(), state.Hash()) == nil:
		t.outcome(ctx, t.take(ctx, []policies.Change{*w.Change}))
	default:
		t.outcome(ctx, t.catchUp(ctx))
	}
}

// outcome notes an outage once.
func (t *tail) outcome(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		t.failures.Inc()
		if !t.failing {
			t.log.WarnContext(ctx, "the log cannot be followed", "error", err)
		}
		t.failing = true
	case t.failing:
		t.failing = false
		t.log.InfoContext(ctx, "the log is followed again", "revision", uint64(t.engine.State().Revision()))
	}
}

// catchUp brings the engine to the end of the log, or anew from a snapshot where
// the log does not follow.
func (t *tail) catchUp(ctx context.Context) error {
	for {
		state := t.engine.State()
		if state == nil {
			return t.rebuild(ctx)
		}
		changes, err := t.changes(ctx, state.Revision())
		if err != nil {
			return fmt.Errorf("read the log after revision %d: %w", state.Revision(), err)
		}
		if len(changes) == 0 {
			return t.compare(ctx, state)
		}
		if err := t.take(ctx, changes); err != nil {
			return err
		}
		if len(changes) < tailBatch {
			return nil // what came meanwhile wakes us again
		}
	}
}

// take applies what the database has committed, or begins anew where that does not
// follow.
func (t *tail) take(ctx context.Context, changes []policies.Change) error {
	t.reached.Store(t.clock().UnixNano())
	for _, c := range changes {
		t.recent.add(c) // before who waits for it looks
		if err := t.engine.Apply(ctx, c); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.log.WarnContext(ctx, "a change does not follow from the engine's state, which begins anew", "revision", uint64(c.Revision), "error", err)
			return t.rebuild(ctx)
		}
	}
	return nil
}

func (t *tail) changes(ctx context.Context, after policies.Revision) ([]policies.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	return t.store.Changes(ctx, after, tailBatch)
}

// compare holds the engine's place, after which the log has nothing, against the
// database's: a restored database has another.
func (t *tail) compare(ctx context.Context, state *authz.State) error {
	bounded, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	head, err := t.store.Head(bounded)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	t.reached.Store(t.clock().UnixNano())
	if head.Revision > state.Revision() || head.Revision == state.Revision() && head.Hash == state.Hash() {
		return nil // what came meanwhile wakes us again
	}
	t.log.WarnContext(ctx, "the database has another history than the engine, which begins anew",
		"revision", uint64(state.Revision()), "database_revision", uint64(head.Revision))
	// What the engine has was committed once.
	if err := t.store.Witness(bounded, state.Revision(), state.Hash()); err != nil {
		return fmt.Errorf("begin a new epoch: %w", err)
	}
	return t.rebuild(ctx)
}

// rebuild puts a snapshot of the database in force.
func (t *tail) rebuild(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var built *authz.State
	err := t.store.Snapshot(ctx, func(header store.Header, objects iter.Seq2[policies.Object, error]) error {
		b := authz.NewBuilder(authz.Header{Platform: header.Platform, Revision: header.Revision, Hash: header.Hash})
		if state := t.engine.State(); state != nil {
			b.Reuse(state.Policy())
		}
		for o, err := range objects {
			if err == nil {
				err = b.Add(o)
			}
			if err != nil {
				return err
			}
		}
		var err error
		built, err = b.Build(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read a snapshot of the platform: %w", err)
	}
	t.recent.clear()
	if err := t.engine.Reset(built); err != nil {
		return fmt.Errorf("put revision %d in force: %w", built.Revision(), err)
	}
	t.rebuilds.Inc()
	t.reached.Store(t.clock().UnixNano())
	return nil
}

// source is the tailing engine and the log, as the feed and bundles read them.
type source struct {
	store  *store.Store
	engine *authz.Engine
	recent *recent
}

// State is the present one.
func (s source) State() *authz.State { return s.engine.State() }

// WaitFor waits for a revision.
func (s source) WaitFor(ctx context.Context, revision policies.Revision) error {
	return s.engine.WaitFor(ctx, revision)
}

// Changes are those of the log.
func (s source) Changes(ctx context.Context, after policies.Revision, limit int) ([]policies.Change, error) {
	if changes := s.recent.after(after, limit); len(changes) > 0 {
		return changes, nil
	}
	return s.store.Changes(ctx, after, limit)
}

var errNoState = errors.New("no state of the platform has been loaded")
