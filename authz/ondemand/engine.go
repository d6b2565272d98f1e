package ondemand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
)

// Engine answers checks from what it fetches when it is asked: the other
// [authz.Decider]. It answers once [Engine.Run] runs and the feed has begun; its
// methods may be called from any number of goroutines.
type Engine struct {
	*authz.Heartbeats

	options  Options
	feed     *feed.Client
	follower *follower
	lookups  *lookups
	memory   *memory
	codec    *codec  // nil without Redis
	shared   *shared // nil without Redis
	filler   *filler // nil without Redis
	flights  flights
	metrics  *metrics
	guard    *authz.Guard

	root        atomic.Pointer[root]
	generations atomic.Uint32
	running     atomic.Bool
	closed      sync.Once
	rejections  rate.Sometimes // that are logged
}

var _ authz.Decider = (*Engine)(nil)

// New makes an engine; it connects when it runs. The error is that of
// [Options.Validate], or says which metric is registered already. Who does not run
// it must [Engine.Close] it.
func New(o Options) (*Engine, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("on-demand engine: %w", err)
	}
	o = o.withDefaults()
	e := &Engine{options: o, flights: newFlights(), rejections: rate.Sometimes{Interval: time.Minute}}
	e.follower = &follower{engine: e}
	var err error
	if e.memory, err = newMemory(o.MemoryLimit); err != nil {
		return nil, fmt.Errorf("on-demand engine: make the cache: %w", err)
	}
	if e.metrics, err = newMetrics(o.Registerer, e); err != nil {
		return nil, errors.Join(fmt.Errorf("on-demand engine: register metrics: %w", err), e.Close())
	}
	if e.guard, err = authz.NewGuard(o.Registerer); err != nil {
		return nil, errors.Join(fmt.Errorf("on-demand engine: register metrics: %w", err), e.Close())
	}
	if e.Heartbeats, err = authz.NewHeartbeats(o.Clock, o.Logger, o.Registerer); err != nil {
		return nil, errors.Join(fmt.Errorf("on-demand engine: %w", err), e.Close())
	}
	e.feed, err = feed.New(feed.Options{
		URL: o.FeedURL, Token: o.Token, TLS: o.TLS, Dial: o.Dial, Notices: e.follower, Replay: o.Replay, Verifier: o.Verifier, Self: o.Self,
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registerer,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("on-demand engine: %w", err), e.Close())
	}
	e.lookups = newLookups(e.feed, newBreaker(layerAdmin, o.Logger, e.metrics.breakers), e.metrics, e.root.Load, e.learned)
	if o.Redis != nil {
		if err := e.useRedis(); err != nil {
			return nil, errors.Join(fmt.Errorf("on-demand engine: %w", err), e.Close())
		}
	}
	return e, nil
}

func (e *Engine) useRedis() (err error) {
	if e.codec, err = newCodec(e.options.RedisKeys); err != nil {
		return err
	}
	quietRedis()
	e.shared = &shared{
		client:  redis.NewUniversalClient(redisOptions(*e.options.Redis, e.options.redisTimeout)),
		timeout: e.options.redisTimeout,
		breaker: newBreaker(layerRedis, e.options.Logger, e.metrics.breakers),
		metrics: e.metrics,
	}
	e.filler = newFiller(e.shared, e.codec, e.metrics, e.options.TTL, e.options.Logger)
	return nil
}

// Run follows the feed and does what checks leave behind, until ctx ends; it then
// closes the engine and returns nil. It returns an error only if the engine runs
// already.
func (e *Engine) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("the on-demand engine runs already")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { e.lookups.run(ctx) })
	if e.filler != nil {
		work.Go(func() { e.filler.run(ctx) })
	}
	err := e.feed.Run(ctx)
	cancel()
	work.Wait()
	return errors.Join(err, e.Close())
}

// Close releases connections and memory. Answers after it are errors where they
// need either. Closing twice is well.
func (e *Engine) Close() error {
	var err error
	e.closed.Do(func() {
		e.memory.close()
		if e.shared != nil {
			err = e.shared.close()
		}
	})
	return err
}

// Ready tells why the engine cannot answer yet, as an [*authz.UnavailableError];
// nil once it can.
func (e *Engine) Ready() error {
	if e.root.Load() == nil {
		return errNotBegun()
	}
	return nil
}

func errNotBegun() error {
	return &authz.UnavailableError{Reason: "the feed has not begun yet"}
}

// Revision is the one that is answered from; 0 before the feed's first word.
func (e *Engine) Revision() policies.Revision {
	if r := e.root.Load(); r != nil {
		return r.revision
	}
	return 0
}

// Header names the root in force; zero before the feed's first word.
func (e *Engine) Header() authz.Header {
	r := e.root.Load()
	if r == nil {
		return authz.Header{}
	}
	return authz.Header{Platform: r.generation.platform, Revision: r.revision, Hash: r.hash}
}

// Token finds the token whose secret has this hash; see [authz.State.Token].
func (e *Engine) Token(hash string) (authz.Token, bool) {
	r := e.root.Load()
	if r == nil {
		return authz.Token{}, false
	}
	t, ok := r.tokens.byHash[hash]
	return t, ok
}

// FeedStatus tells how the feed is doing.
func (e *Engine) FeedStatus() feed.Status { return e.feed.Status() }

// publish puts r in force. Only the follower calls it.
func (e *Engine) publish(r *root) {
	before := e.root.Swap(r)
	if before == nil {
		return
	}
	if before.generation != r.generation {
		e.memory.drop()
	}
	close(before.replaced)
}

// remembered is how many names the index has, and its floor.
func (e *Engine) remembered() (int, policies.Revision) {
	if r := e.root.Load(); r != nil {
		return r.index.size()
	}
	return 0, 0
}

// learned takes a fact that the admin told or that was computed: it goes into
// memory, and, but for stamps, into Redis.
func (e *Engine) learned(g *generation, f *fact) {
	e.memory.put(g, f)
	if e.filler != nil && f.name.kind != kindStamp {
		e.filler.add(key(g.prefix, f.name), f)
	}
}

// await gives the root in force once its revision is least or later. When that
// does not come before ctx ends or budget has passed, the error is ctx's or late's.
func (e *Engine) await(ctx context.Context, least policies.Revision, budget *budget, late func(want, have policies.Revision) error) (*root, error) {
	r := e.root.Load()
	if r == nil {
		return nil, errNotBegun()
	}
	for r.revision < least {
		select {
		case <-r.replaced:
			r = e.root.Load()
		case <-budget.over():
			return nil, late(least, r.revision)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r, nil
}

// late is the error of a revision that did not come in time.
func (e *Engine) late(want, have policies.Revision) error {
	e.metrics.late.Inc()
	return &authz.RevisionError{Want: want, Have: have}
}

// budget is how long one call may wait for revisions in all. It begins with the
// first wait, and once it is over it stays so.
type budget struct {
	limit time.Duration
	timer *time.Timer
	ended chan struct{}
}

func (b *budget) over() <-chan struct{} {
	if b.timer == nil {
		ended := make(chan struct{})
		b.timer, b.ended = time.AfterFunc(max(b.limit, 0), func() { close(ended) }), ended
	}
	return b.ended
}

func (b *budget) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}
