package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	require.Contains(t, string(page), ProblemTable(), "docs/errors.md must have the table of rest.ProblemTable")
	seen := map[problem.Type]bool{}
	for _, k := range Problems {
		require.False(t, seen[k.Type], k.Type)
		seen[k.Type] = true
		require.NotEmpty(t, k.Title, k.Type)
		require.NotEmpty(t, k.Means, k.Type)
	}
}

func TestFromError(t *testing.T) {
	t.Parallel()
	secret := errors.New("password=hunter2")
	for _, c := range []struct {
		err    error
		write  bool
		want   problem.Type
		status int
	}{
		{&policies.MalformedError{Where: "/name", Reason: "stands twice"}, true, problem.Malformed, 400},
		{server.ErrUnauthorized, true, problem.Unauthorized, 401},
		{&policies.ForbiddenError{Reason: "no"}, true, problem.Forbidden, 403},
		{&policies.NotFoundError{Kind: "role", ID: "r"}, true, problem.NotFound, 404},
		{&policies.StateError{Status: policies.StatusActive, Event: policies.EventAccept}, true, problemState, 409},
		{&policies.InUseError{Kind: "role", ID: "r", Count: 2, Uses: []string{"a"}}, true, problemInUse, 409},
		{&policies.TakenError{Field: "email", Value: "a@b.example", Reason: "is another account's"}, true, problemTaken, 409},
		{&policies.PreconditionError{ETag: `"r3"`}, true, problemPrecondition, 412},
		{&http.MaxBytesError{Limit: 10}, true, problem.TooLarge, 413},
		{&policies.TooLargeError{What: "the account document", Limit: 10}, true, problem.TooLarge, 413},
		{&policies.InvalidError{Errors: []policies.FieldError{{Field: "name", Reason: "must not be empty"}}}, true, problemInvalid, 422},
		{&store.IdempotencyError{Key: "k"}, true, problemIdempotency, 422},
		{&store.CursorError{Cursor: "c"}, false, problem.Malformed, 400},
		{&store.UnavailableError{Err: secret}, true, problemNothingChanged, 503},
		{&store.UnavailableError{Err: secret}, false, problem.Unavailable, 503},
		{&store.UnavailableError{OutcomeUnknown: true, Err: secret}, true, problemOutcomeUnknown, 503},
		{&authz.RevisionError{Want: 9, Have: 3}, false, problem.RevisionBehind, 503},
		{&authz.UnavailableError{Reason: "no state yet"}, true, problemNothingChanged, 503},
		{context.DeadlineExceeded, true, problemOutcomeUnknown, 503},
		{context.DeadlineExceeded, false, problem.Unavailable, 503},
		{secret, true, problem.Internal, 500},
	} {
		p := FromError(fmt.Errorf("wrapped: %w", c.err), c.write)
		require.Equal(t, c.want, p.Type, "%v", c.err)
		require.Equal(t, c.status, p.Status, "%v", c.err)
		w := httptest.NewRecorder()
		WriteProblem(w, p)
		require.Equal(t, c.status, w.Code)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.NotContains(t, w.Body.String(), "hunter2")
		switch c.status {
		case 401:
			require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
		case 503:
			require.Equal(t, "1", w.Header().Get("Retry-After"))
		}
		var body Problem
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.Equal(t, c.want, body.Type)
	}
}

func TestProblemQuotesInvalidUTF8(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	WriteProblem(w, NewProblem(problem.NotFound, "role \"\xff\" was not found"))
	require.Equal(t, 404, w.Code)
	require.Contains(t, w.Body.String(), "�")
}
