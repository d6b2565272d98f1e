package client

import (
	"net/http"

	"github.com/usher-authz/usher/authz/problem"
)

// Asker says what a request to a service comes to. An error is answered with 401.
type Asker func(r *http.Request) (Question, error)

// Require lets requests through to next that the sidecar allows, and answers the
// others: 401 where it is not known who asks, 403 for a denial, 503 without an answer.
func (c *Client) Require(ask Asker) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refusal := c.Refusal(r, ask); refusal != nil {
				refusal.Write(w)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Refusal is what a request is answered with that must not go on; nil lets it through.
// It is for middleware of other frameworks.
func (c *Client) Refusal(r *http.Request, ask Asker) *problem.Problem {
	q, err := ask(r)
	if err != nil {
		return &problem.Problem{Type: problem.Unauthorized, Status: http.StatusUnauthorized, Detail: "it is not known who is asking"}
	}
	d, err := c.Check(r.Context(), q)
	switch {
	case err != nil:
		return &problem.Problem{Type: problem.Unavailable, Status: http.StatusServiceUnavailable, Detail: "the permission could not be checked"}
	case !d.Allow:
		return &problem.Problem{Type: problem.Forbidden, Status: http.StatusForbidden, Detail: "not allowed: " + string(d.Reason)}
	}
	return nil
}
