package sidecar

import (
	"context"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// source is where answers come from; one for each mode.
type source interface {
	authz.Decider
	authz.Searcher
	// tokens are those of the platform; nil: there are none.
	tokens() server.Tokens
	// now is the clock of the platform.
	now() time.Time
	// run feeds the source until ctx ends, and then gives up what it holds. It is
	// called once.
	run(ctx context.Context) error
	status() status
}

// status is how a source stands.
type status struct {
	ready    bool
	reason   string // why it is not ready
	revision policies.Revision
	age      time.Duration
	aged     bool // age is known
}

// gated answers only while open gives no error.
type gated struct {
	source
	open func() error
}

// Check implements [authz.Decider].
func (g gated) Check(ctx context.Context, least policies.Revision, q authz.Question) (authz.Decision, error) {
	if err := g.open(); err != nil {
		return authz.Decision{}, err
	}
	return g.source.Check(ctx, least, q)
}

// Decide implements [authz.Decider].
func (g gated) Decide(ctx context.Context, least policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	return g.source.Decide(ctx, least, questions)
}

// Search implements [authz.Searcher].
func (g gated) Search(ctx context.Context, least policies.Revision, search authz.Search) (authz.Found, error) {
	if err := g.open(); err != nil {
		return authz.Found{}, err
	}
	return g.source.Search(ctx, least, search)
}

// self is what this sidecar tells the admin server of itself.
func (o Options) self(checks func() float64) *feed.Self {
	return &feed.Self{Name: o.Name, Version: o.Version, Checks: checks}
}

// stale refuses to answer from data that is older than limit (architecture.md,
// Promises: beyond --max-staleness).
func stale(from source, limit time.Duration) func() error {
	return func() error {
		if now := from.status(); now.aged && now.age > limit {
			return &authz.UnavailableError{Reason: "the data is older than this sidecar may answer from"}
		}
		return nil
	}
}
