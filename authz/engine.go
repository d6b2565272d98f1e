package authz

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/policies"
)

// Options configures an [Engine]; zero values are the defaults.
type Options struct {
	// Clock is the wall clock, time.Now by default.
	Clock func() time.Time
	// CacheLimit is the most (subject, resource) pairs that are kept,
	// [DefaultCacheLimit] by default.
	CacheLimit int
	// MinRevisionWait is how long a check waits for its min_revision,
	// [DefaultMinRevisionWait] by default; negative: not at all.
	MinRevisionWait time.Duration
	// Logger is for what an operator must know; by default nobody hears it.
	Logger *slog.Logger
	// Registerer takes the metrics; nil: nobody does.
	Registerer prometheus.Registerer
}

const (
	// DefaultCacheLimit is how many (subject, resource) pairs are kept by default.
	DefaultCacheLimit = 1_000_000
	// DefaultMinRevisionWait is how long a check waits for its min_revision by
	// default.
	DefaultMinRevisionWait = 2 * time.Second
)

// Engine answers checks from one state, which is replaced whole at each revision.
// Its methods may be called from any number of goroutines. See the package's
// comment for what it guarantees.
type Engine struct {
	*Heartbeats

	wait    time.Duration
	metrics *engineMetrics

	current atomic.Pointer[root]
	replace sync.Mutex // held by whoever makes the next root
	cache   *cache
	flights flights
	kept    kept
	guard   *Guard
}

var _ Decider = (*Engine)(nil)

// root is a state in force. Numbers of roots grow with each one; since is the
// first of those whose cached results may be used at this one.
type root struct {
	state  *State // nil before the first Reset
	number uint64
	since  uint64
	next   chan struct{} // closed when another root is in force
	// lately is what the changes that led here touched, the last one first.
	lately [32]touched
}

// New makes an engine without a state. The error is of a limit that makes no
// sense, or of metrics that are registered already.
func New(o Options) (*Engine, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheLimit == 0 {
		o.CacheLimit = DefaultCacheLimit
	}
	if o.CacheLimit < 0 {
		return nil, fmt.Errorf("the cache limit %d is negative", o.CacheLimit)
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
	}
	e := &Engine{wait: o.MinRevisionWait, cache: newCache(o.CacheLimit)}
	e.flights.flights = map[flightKey]*flight{}
	e.current.Store(&root{next: make(chan struct{})})
	var err error
	e.metrics, err = newEngineMetrics(e, o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if e.guard, err = NewGuard(o.Registerer); err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	if e.Heartbeats, err = NewHeartbeats(o.Clock, o.Logger, o.Registerer); err != nil {
		return nil, err
	}
	return e, nil
}

// State is the one in force, nil until the first Reset.
func (e *Engine) State() *State { return e.current.Load().state }

// Reset puts s in force and drops every cached result. A state that is older than
// the one in force is a [RollbackError], one of another platform a
// [PlatformError]; then nothing changes.
func (e *Engine) Reset(s *State) error {
	e.replace.Lock()
	defer e.replace.Unlock()
	if have := e.State(); have != nil {
		if have.Platform() != s.Platform() {
			return &PlatformError{Have: have.Platform(), Got: s.Platform()}
		}
		if have.Revision() > s.Revision() {
			return &RollbackError{Have: have.Revision(), Got: s.Revision()}
		}
	}
	e.put(s, true)
	e.cache.clear()
	return nil
}

// Apply applies change to the state in force. Errors are those of [State.Apply],
// and leave that state in force; [UnavailableError] before the first Reset.
func (e *Engine) Apply(ctx context.Context, change policies.Change) error {
	e.replace.Lock()
	defer e.replace.Unlock()
	have := e.State()
	if have == nil {
		return unavailable()
	}
	next, err := have.Apply(ctx, change)
	if err != nil {
		return err
	}
	everything := next.policy != have.policy || next.Revision().Epoch() != have.Revision().Epoch()
	e.put(next, everything)
	if everything {
		e.cache.clear()
	}
	return nil
}

// put makes s the state in force. An evaluation that is under way at an earlier
// root may still put its result into the cache: its number tells.
func (e *Engine) put(s *State, everything bool) {
	last := e.current.Load()
	next := &root{state: s, number: last.number + 1, since: last.since, next: make(chan struct{})}
	if everything {
		next.since = next.number
	}
	next.lately[0] = s.touched
	copy(next.lately[1:], last.lately[:])
	e.current.Store(next)
	if everything {
		e.kept.clear()
	} else {
		e.kept.expire(e.now())
	}
	close(last.next)
}

// WaitFor returns once the state in force is of revision rev or a later one, or
// when ctx ends, with its error.
func (e *Engine) WaitFor(ctx context.Context, rev policies.Revision) error {
	_, err := e.await(ctx, rev)
	return err
}

func (e *Engine) await(ctx context.Context, rev policies.Revision) (*root, error) {
	for {
		r := e.current.Load()
		if r.state != nil && r.state.header.Revision >= rev {
			return r, nil
		}
		select {
		case <-r.next:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// rootAt is the root in force, if it has revision rev; else the first that has,
// if it comes within the configured wait.
func (e *Engine) rootAt(ctx context.Context, rev policies.Revision) (*root, error) {
	r := e.current.Load()
	if r.state == nil {
		return nil, unavailable()
	}
	if r.state.header.Revision >= rev {
		return r, nil
	}
	return e.waitAt(ctx, rev)
}

func (e *Engine) waitAt(ctx context.Context, rev policies.Revision) (*root, error) {
	if e.wait > 0 {
		waiting, done := context.WithTimeout(ctx, e.wait)
		defer done()
		if r, err := e.await(waiting, rev); err == nil {
			return r, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	e.metrics.late.Inc()
	return nil, &RevisionError{Want: rev, Have: e.State().Revision()}
}

func unavailable() error { return &UnavailableError{Reason: "no state has arrived yet"} }

// Check implements [Decider]. On a hit it does not allocate.
func (e *Engine) Check(ctx context.Context, atLeast policies.Revision, q Question) (d Decision, err error) {
	r, err := e.rootAt(ctx, atLeast)
	if err != nil {
		return Decision{}, err
	}
	now := e.now()
	if found, ok := e.hit(r, &q, now); ok {
		if d = found.Decide(r.state, &q); !d.Allow || !r.state.policy.guarded.has(q.Action) {
			return d, nil
		}
		return e.ask(ctx, r, q, now)
	}
	return e.miss(ctx, r, q, now)
}

// Decide implements [Decider].
func (e *Engine) Decide(ctx context.Context, atLeast policies.Revision, questions []Question) ([]Decision, error) {
	r, err := e.rootAt(ctx, atLeast)
	if err != nil {
		return nil, err
	}
	now := e.now()
	decisions := make([]Decision, len(questions))
	for i := range questions {
		if found, ok := e.hit(r, &questions[i], now); !ok {
			decisions[i], err = e.miss(ctx, r, questions[i], now)
		} else if decisions[i] = found.Decide(r.state, &questions[i]); decisions[i].Allow && r.state.policy.guarded.has(questions[i].Action) {
			decisions[i], err = e.ask(ctx, r, questions[i], now)
		}
		if err != nil {
			return nil, err
		}
	}
	return decisions, nil
}

// hit finds what is cached for q and may be used at r and now.
func (e *Engine) hit(r *root, q *Question, now int64) (found Permissions, ok bool) {
	k, ok := keyOf(q)
	if q.Explain || !ok {
		return found, false
	}
	found, ok = e.cache.find(r, &k, now)
	if ok {
		e.metrics.hits.inc()
	}
	return found, ok
}

// miss evaluates. It takes q by value, so that the question of a hit need not
// live on the heap.
func (e *Engine) miss(ctx context.Context, r *root, q Question, now int64) (Decision, error) {
	if q.Explain {
		return e.ask(ctx, r, q, now)
	}
	made, err := e.resolve(ctx, r, q)
	if err != nil {
		return Decision{}, err
	}
	if d := made.Decide(r.state, &q); !d.Allow || !r.state.policy.guarded.has(q.Action) {
		return d, nil
	}
	return e.ask(ctx, r, q, now)
}

// ask has Rego decide on the whole of q: to explain it, and where guardrails have
// their say. That is never cached, since it rests on the context and the time, and
// never shared with a plain check, since it reads more.
func (e *Engine) ask(ctx context.Context, r *root, q Question, now int64) (Decision, error) {
	defer e.metrics.evaluated(time.Now())
	d, err := e.guard.Decide(ctx, r.state, time.Unix(0, now), q)
	if err != nil {
		e.metrics.fails(ctx)
	}
	return d, err
}

// Right is whether q is allowed but for guardrails: for whoever decides about who may
// manage what, which no guardrail locks anybody out of. Errors as for Effective.
func (e *Engine) Right(ctx context.Context, q Question) (bool, error) {
	r, err := e.rootAt(ctx, 0)
	if err != nil {
		return false, err
	}
	found, err := e.permissions(ctx, r, q, e.now())
	if err != nil {
		return false, err
	}
	return found.Decide(r.state, &q).Allow, nil
}

// resolve evaluates effective for q at r, once for all who miss it meanwhile, and
// keeps what may be kept.
func (e *Engine) resolve(ctx context.Context, r *root, q Question) (*Permissions, error) {
	e.metrics.misses.Inc()
	k, ok := keyOf(&q)
	if !ok {
		made, err := e.evaluate(ctx, r, &q, e.now())
		if err != nil {
			return nil, err
		}
		return &made.permissions, nil
	}
	for {
		made, led, err := e.flights.do(ctx, flightKey{k, r.number}, func(ctx context.Context) (*entry, error) {
			now := e.now()
			if found, ok := e.cache.find(r, &k, now); ok {
				return &entry{permissions: found}, nil // another flight landed in between
			}
			made, err := e.evaluate(ctx, r, &q, now)
			if err == nil && made.cacheable() {
				e.cache.put(&k, made)
			}
			return made, err
		})
		if err != nil {
			return nil, err
		}
		// Whoever waited may have waited until a grant ended.
		if led || made.permissions.freshAt(e.now()) {
			return &made.permissions, nil
		}
	}
}

// cacheable: unknown subjects and resources are never kept, so that asking for
// what is not there cannot fill the cache.
func (e *entry) cacheable() bool {
	reason := e.permissions.reason
	return reason != policies.ReasonUnknownSubject && reason != policies.ReasonUnknownResource
}

func (e *Engine) evaluate(ctx context.Context, r *root, q *Question, now int64) (*entry, error) {
	defer e.metrics.evaluated(time.Now())
	at := time.Unix(0, now)
	policy := r.state.policy
	found, err := policy.effectiveOf(ctx, r.state, at, q)
	if err != nil {
		e.metrics.fails(ctx)
		return nil, err
	}
	permissions, err := policy.Compact(found, at)
	if err != nil {
		e.metrics.fails(ctx)
		return nil, fmt.Errorf("keep what %q may do on %s %q: %w", q.Subject, q.ResourceType, q.ResourceID, err)
	}
	return &entry{*permissions, r.state.header.Revision, r.number}, nil
}

// Effective is what subject may do on resource, from the cache or evaluated. An
// unknown subject or resource is a result. Errors: [UnavailableError], or that of
// the evaluation.
func (e *Engine) Effective(ctx context.Context, subject policies.AccountID, resource policies.Resource) (*Effective, error) {
	r, err := e.rootAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	found, err := e.permissions(ctx, r, questionOf(subject, resource), e.now())
	if err != nil {
		return nil, err
	}
	return found.Effective(), nil
}

func (e *Engine) permissions(ctx context.Context, r *root, q Question, now int64) (*Permissions, error) {
	if found, ok := e.hit(r, &q, now); ok {
		return &found, nil
	}
	return e.resolve(ctx, r, q)
}

func questionOf(subject policies.AccountID, resource policies.Resource) Question {
	return Question{
		SubjectType: subjectAccount, Subject: string(subject),
		ResourceType: string(resource.Type), ResourceID: resource.ID,
	}
}

// Explanation is an [Effective] with what every level has, at one revision.
type Explanation struct {
	Effective

	Levels   *Levels // nil unless the collaboration is active
	Revision policies.Revision
}

// Explain is Effective with levels, which are evaluated each time. Errors as for
// Effective.
func (e *Engine) Explain(ctx context.Context, subject policies.AccountID, resource policies.Resource) (*Explanation, error) {
	r, err := e.rootAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	now := e.now()
	found, err := e.permissions(ctx, r, questionOf(subject, resource), now)
	if err != nil {
		return nil, err
	}
	defer e.metrics.evaluated(time.Now())
	levels, err := r.state.policy.Levels(ctx, r.state, time.Unix(0, now), subject, resource)
	if err != nil {
		return nil, err
	}
	return &Explanation{Effective: *found.Effective(), Levels: levels, Revision: r.state.Revision()}, nil
}
