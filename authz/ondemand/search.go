package ondemand

import (
	"context"
	"errors"
	"net/http"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

var _ authz.Searcher = (*Engine)(nil)

// Search implements [authz.Searcher]. A search needs the whole platform, which only
// the admin server has: it is passed on. When it does not answer, the error is an
// [*authz.UnavailableError].
func (e *Engine) Search(ctx context.Context, least policies.Revision, s authz.Search) (authz.Found, error) {
	b := &budget{limit: e.options.MinRevisionWait}
	defer b.stop()
	r, err := e.await(ctx, 0, b, e.late)
	if err != nil {
		return authz.Found{}, err
	}
	if s.From == nil {
		least = max(least, r.revision) // nothing older than what was answered before
	}
	found, err := e.feed.Search(ctx, least, s)
	if err != nil {
		return authz.Found{}, searchError(ctx, err, least, r.revision)
	}
	// The next check must not be older than this answer.
	if _, err := e.await(ctx, found.Revision, b, e.late); err != nil {
		return authz.Found{}, err
	}
	return found, nil
}

func searchError(ctx context.Context, err error, least, have policies.Revision) error {
	var place *authz.PlaceError
	var status *feed.StatusError
	switch {
	case errors.As(err, &place):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &status) && status.Status == http.StatusServiceUnavailable && status.Problem.Type == problem.RevisionBehind:
		return &authz.RevisionError{Want: least, Have: have}
	}
	return &authz.UnavailableError{Reason: "a search needs the admin server, which does not give it", Cause: err}
}
