package rest

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// demandRevision waits for the revision that a GET demands by
// Usher-Min-Revision. PostgreSQL is never behind the engine, so that the engine
// tells for both.
func (a *API) demandRevision(ctx context.Context, r *request) error {
	values := r.Header.Values(headerMinRevision)
	if len(values) == 0 {
		return nil
	}
	want, err := policies.ParseRevision(values[0])
	if err != nil || len(values) > 1 {
		return &policies.MalformedError{Where: headerMinRevision, Reason: "must be one whole number from 0 to 2^53-1"}
	}
	return a.wait(ctx, want, a.minRevisionWait)
}

// freshWait is how long a read waits for the engine to have what was acknowledged:
// it is milliseconds behind, or cannot reach the database.
const freshWait = 2 * time.Second

// fresh waits until the engine has every revision that this process has
// acknowledged.
func (a *API) fresh(ctx context.Context) error {
	return a.wait(ctx, policies.Revision(a.acknowledged.Load()), freshWait)
}

// wait returns once the engine has want, at most after limit.
func (a *API) wait(ctx context.Context, want policies.Revision, limit time.Duration) error {
	state := a.engine.State()
	if state != nil && state.Revision() >= want {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := a.engine.WaitFor(wait, want); err == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if state = a.engine.State(); state == nil {
		return &authz.UnavailableError{Reason: "no state yet", Cause: errors.New("nothing was loaded")}
	}
	if state.Revision() >= want {
		return nil
	}
	return &authz.RevisionError{Want: want, Have: state.Revision()}
}

// acknowledge notes a revision that an answer names: no read is older from now
// on.
func (a *API) acknowledge(revision policies.Revision) {
	for {
		have := a.acknowledged.Load()
		if uint64(revision) <= have || a.acknowledged.CompareAndSwap(have, uint64(revision)) {
			return
		}
	}
}
