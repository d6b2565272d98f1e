package authz

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/policies"
)

// Options configures an [Engine]; zero values are the defaults.
type Options struct {
	Clock           func() time.Time      // default time.Now
	CacheLimit      int                   // most cached (subject, resource) pairs; default DefaultCacheLimit
	MinRevisionWait time.Duration         // how long a check waits for its min_revision; default 2 s; negative: not at all
	Logger          *slog.Logger          // default: discards
	Registerer      prometheus.Registerer // default: none
}

// DefaultCacheLimit is how many (subject, resource) pairs are cached by default.
const DefaultCacheLimit = 1_000_000

// Engine answers checks from one state at a time.
type Engine struct{}

var _ Decider = (*Engine)(nil)

// New makes an engine without a state.
func New(o Options) (*Engine, error) { return &Engine{}, nil }

// Close releases what the engine holds. Answers after it are still right.
func (e *Engine) Close() {}

// State is the one in force, nil until the first Reset.
func (e *Engine) State() *State { return nil }

// Reset puts s in force and drops every cached result.
func (e *Engine) Reset(s *State) error { return nil }

// Apply applies change to the state in force.
func (e *Engine) Apply(ctx context.Context, change policies.Change) error {
	return errors.New("not written yet")
}

// Observe takes the time of a heartbeat: now is never before it.
func (e *Engine) Observe(t time.Time) {}

// Now is the greater of the clock and the last heartbeat.
func (e *Engine) Now() time.Time { return time.Time{} }

// WaitFor returns once the state in force has revision rev or a later one, or
// with ctx's error.
func (e *Engine) WaitFor(ctx context.Context, rev policies.Revision) error { return nil }

// Check implements [Decider].
func (e *Engine) Check(ctx context.Context, min policies.Revision, q Question) (Decision, error) {
	return Decision{}, &UnavailableError{Reason: "no state yet"}
}

// Decide implements [Decider].
func (e *Engine) Decide(ctx context.Context, min policies.Revision, questions []Question) ([]Decision, error) {
	return nil, &UnavailableError{Reason: "no state yet"}
}

// Effective is what subject may do on resource, from the cache or evaluated.
func (e *Engine) Effective(ctx context.Context, subject policies.AccountID, resource policies.Resource) (*Effective, error) {
	return nil, &UnavailableError{Reason: "no state yet"}
}

// Explanation is an [Effective] with what every level has, at one revision.
type Explanation struct {
	Effective
	Levels   *Levels // nil unless a collaboration is active
	Revision policies.Revision
}

// Explain evaluates effective and levels for (subject, resource) anew.
func (e *Engine) Explain(ctx context.Context, subject policies.AccountID, resource policies.Resource) (*Explanation, error) {
	return nil, &UnavailableError{Reason: "no state yet"}
}
