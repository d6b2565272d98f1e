package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// retryAfter is when a client may ask again after a 503: about when the next
// heartbeat has told how far the platform is.
const retryAfter = time.Second

// tooLargeError is a request over one of the limits in policies/limits.go.
type tooLargeError struct {
	what  string
	limit int
}

func (e *tooLargeError) Error() string { return fmt.Sprintf("%s: the most is %d", e.what, e.limit) }

// actAsError refuses the header Usher-Act-As: a check is always about the subject
// that it names.
type actAsError struct{}

func (actAsError) Error() string {
	return "Usher-Act-As: the check API answers about the subject of the request and acts as nobody"
}

// problemOf is the one place where an error becomes an answer. What it does not
// know is a 500 without a word of the cause.
func problemOf(err error) problem.Problem {
	var (
		malformed   *policies.MalformedError
		tooLarge    *tooLargeError
		actAs       actAsError
		forbidden   *policies.ForbiddenError
		revision    *authz.RevisionError
		unavailable *authz.UnavailableError
		place       *authz.PlaceError
	)
	switch {
	case errors.As(err, &malformed):
		return problem.Problem{Type: problem.Malformed, Status: http.StatusBadRequest, Detail: malformed.Reason, Where: malformed.Where}
	case errors.As(err, &place):
		return problem.Problem{Type: problem.Malformed, Status: http.StatusBadRequest, Detail: place.Error(), Where: "/page/token"}
	case errors.As(err, &actAs):
		return problem.Problem{Type: problem.ActAs, Status: http.StatusBadRequest, Detail: err.Error(), Where: "Usher-Act-As"}
	case errors.As(err, &tooLarge):
		return problem.Problem{Type: problem.TooLarge, Status: http.StatusRequestEntityTooLarge, Detail: tooLarge.Error()}
	case errors.Is(err, ErrUnauthorized):
		return problem.Problem{Type: problem.Unauthorized, Status: http.StatusUnauthorized, Detail: err.Error()}
	case errors.As(err, &forbidden):
		return problem.Problem{Type: problem.Forbidden, Status: http.StatusForbidden, Detail: forbidden.Reason}
	case errors.As(err, &revision):
		return problem.Problem{
			Type: problem.RevisionBehind, Status: http.StatusServiceUnavailable,
			Detail: revision.Error(), RetryAfter: retryAfter,
		}
	case errors.As(err, &unavailable):
		return problem.Problem{
			Type: problem.Unavailable, Status: http.StatusServiceUnavailable,
			Detail: unavailable.Reason, RetryAfter: retryAfter,
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// The caller has gone, or the server is stopping.
		return problem.Problem{
			Type: problem.Unavailable, Status: http.StatusServiceUnavailable,
			Detail: "the request was cut off", RetryAfter: retryAfter,
		}
	default:
		return problem.Problem{
			Type: problem.Internal, Status: http.StatusInternalServerError,
			Detail: "something went wrong inside; the log has it under the trace id",
		}
	}
}
