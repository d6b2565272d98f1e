package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/usher-authz/usher/admin/bundles"
	"github.com/usher-authz/usher/admin/decisions"
	"github.com/usher-authz/usher/admin/feed"
	"github.com/usher-authz/usher/admin/fleet"
	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/readlog"
	"github.com/usher-authz/usher/admin/rest"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

const (
	pathFeed    = "/v1/feed"
	pathLookup  = "/v1/feed/lookup"
	pathSearch  = "/v1/feed/search"
	pathReport  = "/v1/feed/report"
	pathBundles = "/v1/bundles/"
)

// Server is an admin server. Its methods may be called from any number of
// goroutines.
type Server struct {
	options  Options
	stopping atomic.Bool
	done     chan struct{} // closed when all has ended
	serving  sync.WaitGroup

	mu      sync.Mutex // of what follows
	state   phase
	steps   []step // what Stop undoes, the last first
	address net.Addr
	tail    *tail
	engine  *authz.Engine
	api     *rest.API
	err     error
}

type phase int

const (
	fresh phase = iota
	running
	stopped
)

// step is one part of stopping.
type step struct {
	name string
	stop func(context.Context) error
}

// New makes a server, which does nothing until Start. The error is that of
// [Options.Validate].
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
		for _, c := range []prometheus.Collector{
			collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		} {
			if err := o.Registry.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of the process: %w", err)
			}
		}
	}
	return &Server{options: o, done: make(chan struct{})}, nil
}

// Start listens, opens the database, loads the platform, and then serves until
// Stop. A taken port, a schema that this binary cannot serve ([store.SchemaError]) and
// a database that does not answer ([store.UnavailableError]) are its errors, after which
// nothing is left running. The server's life does not depend on ctx. Starting twice is
// an error.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != fresh {
		return errors.New("the admin server was started before")
	}
	s.state = running
	if err := s.start(ctx); err != nil {
		s.state = stopped
		err = errors.Join(err, s.unwind(context.WithoutCancel(ctx)))
		close(s.done)
		return err
	}
	return nil
}

func (s *Server) push(name string, stop func(context.Context) error) {
	s.steps = append(s.steps, step{name, stop})
}

func (s *Server) start(ctx context.Context) error {
	o := s.options
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.Listen, err)
	}
	s.push("the listener", func(context.Context) error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	s.address = listener.Addr()
	s.engine, err = authz.New(authz.Options{
		Clock: o.Clock, CacheLimit: o.CacheLimit, MinRevisionWait: o.MinRevisionWait, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return fmt.Errorf("make the engine: %w", err)
	}
	outbox, err := o.outbox()
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Options{
		URL: o.DatabaseURL, Logger: o.Logger, Clock: o.Clock, Registerer: o.Registry, InvitationTTL: o.InvitationTTL, Outbox: outbox,
		InvitationsPerOwner: o.InvitationsPerOwner, InvitationsPerAddress: o.InvitationsPerAddress, State: s.engine.State,
	})
	if err != nil {
		return err
	}
	s.push("the store", func(context.Context) error { db.Close(); return nil })
	if err := s.startJobs(ctx, db); err != nil {
		return err
	}
	if s.tail, err = newTail(db, s.engine, o); err != nil {
		return err
	}
	if err := s.tail.rebuild(ctx); err != nil {
		return err
	}
	if err := s.sayWhoDecides(ctx); err != nil {
		return err
	}
	s.goTail(ctx)
	s.goTime(ctx, db)
	s.goNews(ctx, db)
	on := s.connections(listener)
	limits, err := newFront(o)
	if err != nil {
		return fmt.Errorf("register the metrics of the server: %w", err)
	}
	handler, err := s.handler(ctx, db)
	if err != nil {
		return err
	}
	on.Handler = limits.wrap(handler, http.HandlerFunc(s.api.ServeUnknown))
	s.serve(on, listener, limits)
	return nil
}

// sayWhoDecides warns of a catalogue and Rego in force that are not this program's.
// Guardrails are no program's.
func (s *Server) sayWhoDecides(ctx context.Context) error {
	own, err := s.engine.State().Policy().Source().WithGuardrails(nil)
	if err == nil && s.options.Embedded != (policies.Hash{}) && own.Digest != s.options.Embedded {
		s.options.Logger.WarnContext(ctx, "the catalogue and the Rego that decide are not this program's: its own `usher migrate` puts those in force",
			"in_force", own.Digest.String(), "this_program", s.options.Embedded.String())
	}
	return err
}

// goTail runs the tail until it is stopped.
func (s *Server) goTail(ctx context.Context) {
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { s.tail.run(following) })
	s.push("the tail", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}

// stopGrace is how long a part that was told to end may take when the time for
// stopping is over already: what comes after it must not pull the rug from under it.
const stopGrace = 2 * time.Second

// wait runs await until ctx ends, and a moment longer.
func wait(ctx context.Context, await func()) error {
	ended := make(chan struct{})
	go func() {
		await()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-ended:
		return nil
	case <-grace.C:
		return ctx.Err()
	}
}

// handler makes everything that is served.
func (s *Server) handler(ctx context.Context, db *store.Store) (http.Handler, error) {
	o := s.options
	known := newTokens(db, s.engine)
	s.goTokenUses(ctx, known)
	auth := server.NewAuthenticator(known, s.engine.Now)
	identities, err := s.identities()
	if err != nil {
		return nil, err
	}
	registrar, err := o.registrar()
	if err != nil {
		return nil, err
	}
	reads, err := readlog.New(readlog.Options{Store: db, Retention: o.ReadRetention, Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, fmt.Errorf("make the log of reads: %w", err)
	}
	reads.Start(ctx)
	s.push("the log of reads", reads.Stop)
	api, err := rest.New(rest.Options{
		Store: db, Engine: s.engine, Authenticator: auth, Identities: identities, Logger: o.Logger, Version: o.Version,
		MinRevisionWait: o.MinRevisionWait, Registrar: registrar, ReadLog: reads, Registerer: o.Registry,
	})
	if err != nil {
		return nil, err
	}
	s.api = api
	decider, err := s.goDecisionLog(ctx)
	if err != nil {
		return nil, err
	}
	checks, err := server.New(server.Options{
		Decider: decider, Searcher: s.engine, Tokens: known, Clock: s.engine.Now, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, err
	}
	from := source{db, s.engine, s.tail.recent}
	feeds, err := feed.New(feed.Options{
		Source: from, Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry, Signer: o.Signer, CatchUpWait: max(o.MinRevisionWait, 1),
		Witness: db.Witness,
	})
	if err != nil {
		return nil, err
	}
	if err := feeds.Start(ctx); err != nil {
		return nil, err
	}
	s.push("feeds", feeds.Stop)
	reports, err := fleet.New(fleet.Options{Store: db, Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	s.goFleet(ctx, reports)

	opa, err := bundles.New(bundles.Options{
		Source: bundles.EngineSource(s.engine, func(ctx context.Context) (policies.Revision, error) {
			head, err := db.Head(ctx)
			return head.Revision, err
		}),
		Key: o.Signer.First(), Fail: api.Fail, MinInterval: o.BundleMinInterval, MinRevisionWait: max(o.MinRevisionWait, 1),
		Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("make the bundle endpoint: %w", err)
	}

	uploads, err := decisions.New(decisions.Options{Store: db, Fail: api.Fail, Registerer: o.Registry})
	if err != nil {
		return nil, fmt.Errorf("make the endpoints of OPAs' reports: %w", err)
	}
	s.goKeeper(ctx, db)

	mux := http.NewServeMux()
	mux.Handle(decisions.PatternLogs, auth.Require(policies.ScopeDecisions, rest.RefuseActAs(http.HandlerFunc(uploads.Logs))))
	mux.Handle(decisions.PatternStatus, auth.Require(policies.ScopeDecisions, rest.RefuseActAs(http.HandlerFunc(uploads.Status))))
	mux.Handle(bundles.Pattern, auth.Require(policies.ScopeBundles, rest.RefuseActAs(opa)))
	if err := checks.Mount(mux, server.Listener{Auth: server.AuthToken, PublicURL: s.publicURL()}); err != nil {
		return nil, err
	}
	server.Health{Ready: s.readiness, Gatherer: o.Registry}.Mount(mux)
	mux.Handle(pathFeed, auth.Require(policies.ScopeBundles, http.HandlerFunc(feeds.ServeFeed)))
	mux.Handle(pathSearch, auth.Require(policies.ScopeBundles, feeds.ServeSearch(s.engine)))
	mux.Handle(pathReport, auth.Require(policies.ScopeBundles, feeds.ServeReport(reports.Take)))
	mux.Handle(pathLookup, auth.Require(policies.ScopeBundles, http.HandlerFunc(feeds.ServeLookup)))
	mux.Handle("/", api)
	return mux, nil
}

// goKeeper looks after the partitions of the decisions until it is stopped.
func (s *Server) goKeeper(ctx context.Context, db *store.Store) {
	keeping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		decisions.Keeper{Store: db, Retention: s.options.DecisionRetention, Logger: s.options.Logger}.Run(keeping)
	})
	s.push("the keeper of decisions", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}

// goDecisionLog is the engine with its decisions logged, if they are to be, until it is
// stopped.
func (s *Server) goDecisionLog(ctx context.Context) (authz.Decider, error) {
	if s.options.DecisionLog == nil {
		return s.engine, nil
	}
	o := *s.options.DecisionLog
	o.Logger, o.Registerer = s.options.Logger, s.options.Registry
	log, err := decisionlog.New(o)
	if err != nil {
		return nil, err
	}
	logging, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { log.Run(logging) })
	s.push("the decision log", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
	return log.Wrap(s.engine), nil
}

// goFleet writes down what sidecars report until it is stopped.
func (s *Server) goFleet(ctx context.Context, reports *fleet.Fleet) {
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { reports.Run(writing) })
	s.push("the reports of sidecars", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}

// goTokenUses writes down which tokens were used until it is stopped, and a last
// time then.
func (s *Server) goTokenUses(ctx context.Context, known *tokens) {
	noting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { known.uses.run(noting, known.store, s.options.Logger) })
	s.push("the uses of tokens", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}

// identities verifies the JWTs of accounts; nil if there is no provider.
func (s *Server) identities() (*identity.Verifier, error) {
	o := s.options.Identity
	if o.IsZero() {
		return nil, nil
	}
	o.Clock, o.Logger, o.Registerer = s.options.Clock, s.options.Logger, s.options.Registry
	if o.Client == nil {
		o.Client = identity.NewClient()
		s.push("the connections to the OpenID provider", func(context.Context) error { o.Client.CloseIdleConnections(); return nil })
	}
	return identity.New(o)
}

// publicURL is what the metadata of the check API names; nothing where that would
// be plain HTTP beyond loopback.
func (s *Server) publicURL() string {
	url := s.options.PublicURL
	if url == "" {
		url = s.url()
	}
	if (server.Listener{PublicURL: url}).Validate() != nil {
		return ""
	}
	return url
}

// connections makes the HTTP server. Stopping it ends what is left of its
// connections after the feeds' end.
func (s *Server) connections(listener net.Listener) *http.Server {
	living, cancel := context.WithCancel(context.Background())
	on := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return living },
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: policies.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
	}
	s.push("the connections of "+listener.Addr().String(), func(ctx context.Context) error {
		cancel() // long polls
		err := on.Shutdown(ctx)
		if err != nil {
			_ = on.Close()
		}
		return errors.Join(err, wait(ctx, s.serving.Wait))
	})
	return on
}

// serve serves until Stop, which begins with this: no new connections, and the
// requests in flight are finished. Feeds are told to end only then.
func (s *Server) serve(on *http.Server, listener net.Listener, limits *front) {
	if s.options.TLS != nil {
		listener = tls.NewListener(listener, s.options.TLS)
	}
	s.serving.Go(func() {
		if err := on.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed(fmt.Errorf("serve on %s: %w", listener.Addr(), err))
		}
	})
	s.push("requests", func(ctx context.Context) error {
		s.serving.Go(func() { _ = on.Shutdown(ctx) }) // ends with the feeds at the latest
		return wait(ctx, limits.idle)
	})
}

// failed notes why something ended that should run for ever.
func (s *Server) failed(err error) {
	if s.stopping.Load() {
		return
	}
	s.options.Logger.Error("the admin server ends", "error", err)
	go func() {
		s.mu.Lock()
		s.err = errors.Join(s.err, err)
		s.mu.Unlock()
		_ = s.Stop(context.Background())
	}()
}

// Addr is where the server listens, the port chosen if it was 0; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// URL is the server's base URL as this machine reaches it; empty before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url()
}

func (s *Server) url() string {
	switch {
	case s.address == nil:
		return ""
	case s.options.TLS != nil:
		return "https://" + s.address.String()
	}
	return "http://" + s.address.String()
}

// Done is closed when the server has ended; see Err.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself; nil if it runs or was stopped.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Server) readiness() server.Readiness {
	age := s.tail.age()
	now := server.Readiness{Mode: "admin", Age: &age}
	state := s.engine.State()
	if state != nil {
		now.Revision = state.Revision()
	}
	switch {
	case s.stopping.Load():
		now.Reason = "it is stopping"
	case state == nil:
		now.Reason = errNoState.Error()
	case age > staleAfter:
		now.Reason = "the database does not answer"
	default:
		now.Ready = true
	}
	return now
}

// Stop ends the server: not ready, no new connections, what is in flight is
// finished, then feeds, the tail and the store. When ctx ends first, connections are
// cut, and the error is ctx's. Stopping twice, or before Start, is well.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.mu.Lock()
	if s.state == stopped {
		s.mu.Unlock()
		return wait(ctx, func() { <-s.done })
	}
	if s.state == fresh {
		s.state = stopped
		s.mu.Unlock()
		close(s.done)
		return nil
	}
	s.state = stopped
	s.mu.Unlock()
	err := s.unwind(ctx)
	close(s.done)
	return err
}

// unwind runs the steps, the last first, each whatever the ones before gave.
func (s *Server) unwind(ctx context.Context) error {
	var errs []error
	for _, step := range slices.Backward(s.steps) {
		if err := step.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}
