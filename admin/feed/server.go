package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// Source is where the feed comes from: the tailing engine and the change log of the
// admin process. Methods are called from many goroutines.
type Source interface {
	// State is the present one; nil: none yet. Its revision never goes back.
	State() *authz.State
	// WaitFor returns once State has revision or a later one, or with an error.
	WaitFor(ctx context.Context, revision policies.Revision) error
	// Changes are the first changes of the log after a revision, at most limit, in
	// order. Empty: there are none yet.
	Changes(ctx context.Context, after policies.Revision, limit int) ([]policies.Change, error)
}

// Defaults and times of the server.
const (
	// DefaultRingSize is how many changes are kept ready for all connections.
	DefaultRingSize = 16_384
	// DefaultRingBytes bounds the same in bytes.
	DefaultRingBytes = 64 << 20
	// DefaultMaxConnections bounds the streams of one replica.
	DefaultMaxConnections = 1024
	// DefaultWriteTimeout is how long a write may make no progress.
	DefaultWriteTimeout = 10 * time.Second
	// DefaultCatchUpWait is how long an asker that is ahead of this replica waits.
	DefaultCatchUpWait = 2 * time.Second

	maxPosts      = 64              // look-ups, searches and reports under way at once; further ones wait, and are then sent away with 503
	logBatch      = 256             // changes a read of the log
	logTimeout    = 2 * time.Second // for one read of the log; then a snapshot serves
	logReaders    = 4               // streams that read the log at once: a fleet that comes back must not starve writers
	batchBytes    = 64 << 10        // written and flushed together
	retryAfter    = time.Second     // for an asker that was sent away
	stopGrace     = 250 * time.Millisecond
	shortestPause = 10 * time.Millisecond
	longestPause  = time.Second
	emptyAttempts = 100 // reads of a log without what the state has already, before the ring begins anew
)

// Options configures a [Server]; zero values are the defaults.
type Options struct {
	Source         Source        // required
	Heartbeat      time.Duration // between heartbeats; default 1 s
	RingSize       int           // default [DefaultRingSize]
	RingBytes      int           // default [DefaultRingBytes]
	MaxConnections int           // default [DefaultMaxConnections]
	MaxReplay      int           // revisions replayed at most, default and most the wire's MaxReplay
	WriteTimeout   time.Duration // default [DefaultWriteTimeout]
	CatchUpWait    time.Duration // default [DefaultCatchUpWait]
	// Signer signs all that is served; nil: nothing is signed, which sidecars with
	// verification keys refuse.
	Signer *signing.Signer
	// Witness is told of a revision, with its chain hash, that this platform's keys have
	// vouched for and that the source does not have; nil: nobody.
	Witness func(ctx context.Context, revision policies.Revision, hash policies.Hash) error

	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Validate reports every problem of o at once.
func (o Options) Validate() error {
	var errs []error
	if o.Source == nil {
		errs = append(errs, errors.New("the feed server needs a source"))
	}
	for name, n := range map[string]int{
		"RingSize": o.RingSize, "RingBytes": o.RingBytes, "MaxConnections": o.MaxConnections, "MaxReplay": o.MaxReplay,
		"Heartbeat": int(o.Heartbeat), "WriteTimeout": int(o.WriteTimeout), "CatchUpWait": int(o.CatchUpWait),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	if o.MaxReplay > wire.MaxReplay {
		errs = append(errs, fmt.Errorf("MaxReplay is %d, over %d", o.MaxReplay, wire.MaxReplay))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	orDuration := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	orInt := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	orDuration(&o.Heartbeat, wire.HeartbeatInterval)
	orDuration(&o.WriteTimeout, DefaultWriteTimeout)
	orDuration(&o.CatchUpWait, DefaultCatchUpWait)
	orInt(&o.RingSize, DefaultRingSize)
	orInt(&o.RingBytes, DefaultRingBytes)
	orInt(&o.MaxConnections, DefaultMaxConnections)
	orInt(&o.MaxReplay, wire.MaxReplay)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server serves the feed of one admin replica. Its handlers take requests that are
// authenticated already (scope bundles), any number at once, and answer 503 before
// Start and after Stop.
type Server struct {
	o       Options
	ring    *ring
	metrics *metrics
	zip     *zstd.Encoder
	logs    chan struct{} // places for readers of the log
	posts   chan struct{} // places for look-ups, searches and reports

	mu      sync.Mutex
	started bool
	stopped bool
	streams map[*stream]struct{}
	cancel  context.CancelFunc
	work    sync.WaitGroup // the follower, streams and look-ups
	done    chan struct{}  // closed by Stop
}

// New makes a server; nothing runs before Start. The error is that of
// [Options.Validate], or says which metric is registered already.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Server{
		o: o, ring: newRing(o.RingSize, o.RingBytes), done: make(chan struct{}),
		logs: make(chan struct{}, logReaders), posts: make(chan struct{}, maxPosts),
		streams: map[*stream]struct{}{},
	}
	var err error
	if s.zip, err = newZip(); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Start lets one goroutine follow the source until Stop. It may come more than once;
// after Stop it is an error. The context is not kept.
func (s *Server) Start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("the feed server was stopped")
	}
	if s.started {
		return nil
	}
	s.started = true
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.work.Go(func() { s.follow(ctx) })
	return nil
}

// Stop ends every stream and look-up and waits for them, at most until ctx ends,
// whose error it then returns. A stream that is between two batches ends cleanly, one
// whose reader does not read is cut. It may come more than once, and before Start.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.done)
		if s.cancel != nil {
			s.cancel()
		}
	}
	s.mu.Unlock()

	gone := make(chan struct{})
	go func() { // ends with the last stream, whose writes end by their deadline at the latest
		s.work.Wait()
		close(gone)
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	for {
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			s.cut()
			return fmt.Errorf("stop the feed server: %w", ctx.Err())
		case <-grace.C:
			s.cut()
		}
	}
}

func (s *Server) stopping() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// cut ends the writes that are under way.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.out.cut()
	}
}

// enter counts a handler in; false: the server does not run.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.stopped {
		return false
	}
	s.work.Add(1)
	return true
}

// join counts a stream in; false: there are too many.
func (s *Server) join(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= s.o.MaxConnections {
		return false
	}
	s.streams[st] = struct{}{}
	return true
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}
