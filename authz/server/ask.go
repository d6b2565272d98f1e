package server

import (
	"context"
	"net/http"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Ask answers one question for a door that is not HTTP, and counts it as all are.
// Errors are those of [authz.Decider.Check].
func (a *API) Ask(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error) {
	decision, err := a.decider.Check(ctx, atLeast, q)
	if err == nil {
		a.metrics.decided(&decision)
	}
	return decision, err
}

// Decisions is how many decisions were answered, at all doors.
func (a *API) Decisions() float64 { return a.metrics.sum() }

// Admit tells whether a caller with these values of Authorization may check. The
// error is [ErrUnauthorized], a [policies.ForbiddenError], or an
// [authz.UnavailableError] while the tokens are not known.
func (a *API) Admit(authorization []string) error {
	if a.auth == nil {
		return ErrUnauthorized
	}
	token, err := a.auth.Authenticate(&http.Request{Header: http.Header{"Authorization": authorization}})
	if err != nil {
		return err
	}
	return Allow(token, policies.ScopeChecks)
}
