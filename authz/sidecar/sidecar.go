package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/server"
)

// Sidecar is a check server. Its methods may be called from any number of
// goroutines.
type Sidecar struct {
	options     Options
	source      source
	api         *server.API
	decider     authz.Decider // what every door answers from
	searcher    authz.Searcher
	health      server.Health
	decisions   *decisionlog.Log // nil: decisions are not logged
	certificate *certificate     // nil: no TLS
	routes      *routesFile      // nil: they are in no file
	errorLog    *log.Logger

	stopping atomic.Bool
	done     chan struct{} // closed when all has ended

	mu        sync.Mutex // of what follows
	state     phase
	address   net.Addr
	envoy     net.Addr // where Envoy finds it on TCP
	listeners []*listener
	cancel    context.CancelFunc // ends the source
	work      sync.WaitGroup
	err       error // why it ended by itself
}

type phase int

const (
	fresh phase = iota
	running
	stopped
)

// New makes a sidecar, which does nothing until Start. The error is that of
// [Options.Validate], or of a certificate that cannot be read.
func New(o Options) (*Sidecar, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
		o.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	s := &Sidecar{options: o, done: make(chan struct{}), errorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)}
	if o.TLSCert != "" {
		var err error
		if s.certificate, err = newCertificate(o.TLSCert, o.TLSKey, o.Logger); err != nil {
			return nil, err
		}
	}
	if o.RoutesFile != "" {
		var err error
		if s.routes, err = newRoutesFile(o); err != nil {
			return nil, err
		}
		s.options.Routes = s.routes.inForce
	}
	from, err := newSource(o, s.checks)
	if err != nil {
		return nil, err
	}
	s.source = from
	answers := from
	if r, ok := from.(*resident); ok && r.disk != nil {
		answers = gated{answers, r.usable}
	}
	if o.MaxStaleness > 0 {
		answers = gated{answers, stale(from, o.MaxStaleness)}
	}
	s.decider, s.searcher = answers, answers
	if o.DecisionLog != nil {
		logging := *o.DecisionLog
		logging.Logger, logging.Registerer = o.Logger, o.Registry
		if s.decisions, err = decisionlog.New(logging); err != nil {
			return nil, err
		}
		s.decider = s.decisions.Wrap(answers)
	}
	s.api, err = server.New(server.Options{
		Decider: s.decider, Searcher: s.searcher, Routes: s.options.Routes, Tokens: from.tokens(), Clock: from.now, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, err
	}
	s.health = server.Health{Ready: s.ready, Gatherer: o.Registry}
	return s, nil
}

// checks is how many decisions were answered.
func (s *Sidecar) checks() float64 { return s.api.Decisions() }

// newSource makes the source of the mode, which tells the admin server how many checks
// there were, if it has one.
func newSource(o Options, checks func() float64) (source, error) {
	switch o.Mode {
	case ModeOnDemand:
		return newOnDemand(o, checks)
	case ModeBundle:
		return newBundle(o)
	case ModeResident:
		return newResident(o, checks)
	default:
		return nil, fmt.Errorf("the mode %q is none", o.Mode)
	}
}

// Start listens, and serves until Stop or a failure. It returns once it listens; a
// taken port is its error. The sidecar's life does not depend on ctx. Starting twice
// is an error.
func (s *Sidecar) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != fresh {
		return errors.New("the sidecar was started before")
	}
	if b, ok := s.source.(*bundle); ok {
		if err := b.prepare(ctx); err != nil {
			return err
		}
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	s.state = running
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.work.Go(func() { s.failed(s.source.run(running)) })
	if s.routes != nil {
		s.work.Go(func() { s.routes.run(running) })
	}
	if s.decisions != nil {
		s.work.Go(func() { s.decisions.Run(running) })
	}
	for _, l := range s.listeners {
		s.work.Go(func() {
			if err := l.server.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				s.failed(fmt.Errorf("serve on %s: %w", l.Addr(), err))
			}
		})
		s.options.Logger.InfoContext(ctx, "listening", "address", l.Addr().String(), "mode", s.options.Mode)
	}
	return nil
}

// failed notes why something ended that should run for ever, and ends the rest.
func (s *Sidecar) failed(err error) {
	if err == nil || s.stopping.Load() {
		return
	}
	s.mu.Lock()
	s.err = errors.Join(s.err, err)
	s.mu.Unlock()
	go func() { _ = s.Stop(context.Background()) }()
}

// Addr is where the sidecar listens on TCP, the port chosen if it was 0; nil before
// Start and without TCP.
func (s *Sidecar) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// URL is the base URL of the TCP listener as this machine reaches it; empty where
// there is none.
func (s *Sidecar) URL() string {
	address := s.Addr()
	switch {
	case address == nil:
		return ""
	case s.certificate != nil:
		return "https://" + address.String()
	default:
		return "http://" + address.String()
	}
}

// Done is closed when the sidecar has ended; see Err.
func (s *Sidecar) Done() <-chan struct{} { return s.done }

// Err is why the sidecar ended by itself; nil if it runs or was stopped.
func (s *Sidecar) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Ready tells what GET /ready does.
func (s *Sidecar) Ready() server.Readiness { return s.ready() }

func (s *Sidecar) ready() server.Readiness {
	of := s.source.status()
	now := server.Readiness{
		Ready: of.ready, Reason: of.reason, Mode: string(s.options.Mode),
		Revision: of.revision,
	}
	if of.aged {
		now.Age = &of.age
	}
	if limit := s.options.MaxStaleness; limit > 0 && of.aged && of.age > limit {
		now.Ready, now.Reason = false, "the data is older than this sidecar may answer from"
	}
	if s.stopping.Load() {
		now.Ready, now.Reason = false, "it is stopping"
	}
	return now
}

// Stop ends the sidecar: not ready, no new connections, what is in flight is
// finished, then the source. When ctx ends first, connections are cut, and the error
// is ctx's. Stopping twice, or before Start, is well.
func (s *Sidecar) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.mu.Lock()
	switch s.state {
	case stopped:
		s.mu.Unlock()
		select {
		case <-s.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case fresh:
		s.state = stopped
		s.mu.Unlock()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		err := s.source.run(ended) // gives up what it holds
		close(s.done)
		return err
	case running:
	}
	s.state = stopped
	listeners, cancel := s.listeners, s.cancel
	s.mu.Unlock()

	errs := make([]error, len(listeners))
	var servers sync.WaitGroup
	for i, l := range listeners {
		servers.Go(func() {
			if errs[i] = l.server.Shutdown(ctx); errs[i] != nil {
				_ = l.server.Close()
			}
		})
	}
	servers.Wait()
	cancel()
	s.work.Wait()
	close(s.done)
	return errors.Join(errs...)
}
