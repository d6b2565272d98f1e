package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// retryAfter is what Retry-After says on a 503 and a 429.
const retryAfter = time.Second

// The types of problem that the check API does not have; [Problems] says what
// each means.
const (
	problemTimeout        problem.Type = "urn:usher:problem:request-timeout"
	problemState          problem.Type = "urn:usher:problem:wrong-state"
	problemInUse          problem.Type = "urn:usher:problem:in-use"
	problemTaken          problem.Type = "urn:usher:problem:taken"
	problemPrecondition   problem.Type = "urn:usher:problem:precondition-failed"
	problemMediaType      problem.Type = "urn:usher:problem:media-type"
	problemInvalid        problem.Type = "urn:usher:problem:invalid-fields"
	problemIdempotency    problem.Type = "urn:usher:problem:idempotency-key-reused"
	problemImport         problem.Type = "urn:usher:problem:import-refused"
	problemTooMany        problem.Type = "urn:usher:problem:too-many-requests"
	problemNothingChanged problem.Type = "urn:usher:problem:nothing-changed"
	problemOutcomeUnknown problem.Type = "urn:usher:problem:outcome-unknown"
)

// ProblemKind is one row of the table of problems.
type ProblemKind struct {
	Type   problem.Type
	Status int
	Title  string // the same for every occurrence
	Means  string // for docs/errors.md: what it means, and what the document carries beside
}

// Problems is every type of problem that usher answers with, the check API's among
// them (authz/problem). docs/errors.md shows it; a test compares the two.
var Problems = []ProblemKind{
	{problem.Malformed, 400, "The request is malformed", "JSON that does not parse, a wrong type, an unknown or duplicate key, " +
		"an unknown or unreadable parameter or header. `errors` (or `where`) says where."},
	{problem.ActAs, 400, "Usher-Act-As cannot be used here", "Checks, feed, bundles and imports act as nobody, and an account acts as itself."},
	{problem.Unauthorized, 401, "Credentials are missing or wrong", "No bearer token, or one that is unknown, revoked or expired, " +
		"or a JWT that is not the OpenID provider's for this server."},
	{problem.Forbidden, 403, "This is not allowed", "The caller is known, but its scope or its right does not reach."},
	{problem.NotFound, 404, "There is no such thing", "It does not exist, or the caller may not see it."},
	{problem.Method, 405, "The path has no such method", "`Allow` lists the methods that it has."},
	{problemTimeout, 408, "The request took too long to arrive", "The body was not complete in time. Nothing was changed."},
	{problemState, 409, "The collaboration is in another state", "`state` and `event` name both, `member` the collaboration."},
	{problemInUse, 409, "It is in use", "`count` uses; `uses` lists the first. `?force=true` removes them too."},
	{problemTaken, 409, "It belongs to something else", "An id, an email or a name is taken; `errors` names the field."},
	{problem.OtherPlatform, 409, "This is another platform", "Who asks for the feed follows another platform than this server's."},
	{problemPrecondition, 412, "The object was changed in the meantime", "`If-Match` names another etag than the present one, which " +
		"`etag` gives (absent if there is no object)."},
	{problem.TooLarge, 413, "The request is too large", "A body, a document of an import or a batch is over its limit."},
	{problemMediaType, 415, "The content type is not taken here", "`detail` says which are."},
	{problemInvalid, 422, "Some fields are invalid", "The request is well-formed; `errors` lists every invalid field at once."},
	{problemIdempotency, 422, "The idempotency key was used for another request", "A key stands for one request, with its path and body."},
	{problemImport, 422, "No document was imported", "`errors` lists what is wrong by line and account."},
	{problemTooMany, 429, "Too many requests", "Come back after `Retry-After` seconds. Nothing was changed."},
	{problem.Internal, 500, "Something went wrong in usher", "`trace_id` finds the cause in the server's log."},
	{problem.RevisionBehind, 503, "The revision is not here yet", "The revision demanded is beyond `revision`, and did not arrive in time. Nothing was changed."},
	{problem.Unavailable, 503, "Usher cannot answer now", "A read or a check: a part that it needs is down or overloaded. " +
		"Try again after `Retry-After` seconds."},
	{problemNothingChanged, 503, "Usher cannot write now", "A write: a part that it needs is down or overloaded, and nothing was changed. " +
		"Try again after `Retry-After` seconds."},
	{problemOutcomeUnknown, 503, "The outcome of the write is unknown", "The database went away while it committed. Read before trying again, " +
		"or try again with the same `Idempotency-Key`."},
}

func kindOf(t problem.Type) ProblemKind {
	for _, k := range Problems {
		if k.Type == t {
			return k
		}
	}
	return ProblemKind{Type: problem.Internal, Status: http.StatusInternalServerError, Title: "Something went wrong in usher"}
}

// Problem is an error as application/problem+json (RFC 9457). It never carries
// the inner cause of a fault.
type Problem struct { //nolint:errname // it is a document that is also an error, and is called what RFC 9457 calls it
	Type    problem.Type `json:"type" doc:"Stable name of the kind of error."`
	Title   string       `json:"title" doc:"The kind of error in words."`
	Status  int          `json:"status" doc:"The HTTP status."`
	Detail  string       `json:"detail,omitempty" doc:"What happened this time."`
	Errors  []Fault      `json:"errors,omitempty" doc:"One entry for each invalid field; in an import, for each refused document."`
	TraceID string       `json:"trace_id,omitempty" doc:"Finds the request in the server's log (500 only)."`

	Imported []policies.AccountID `json:"imported,omitempty" doc:"What an import took in."`

	Member   policies.CollaborationID `json:"member,omitempty" doc:"The collaboration (wrong-state)."`
	State    policies.Status          `json:"state,omitempty" doc:"Its state (wrong-state)."`
	Event    policies.Event           `json:"event,omitempty" doc:"The event that its state refuses (wrong-state)."`
	Count    int                      `json:"count,omitzero" doc:"How many uses there are (in-use)."`
	Uses     []string                 `json:"uses,omitempty" doc:"The first uses (in-use)."`
	ETag     string                   `json:"etag,omitempty" doc:"The present etag (precondition-failed)."`
	Revision *policies.Revision       `json:"revision,omitempty" doc:"The present revision (revision-behind)."`

	header http.Header
}

// Fault is one thing that is wrong in a request: a field with its reason, or, in
// an import, a document with its line, its account and its fields.
type Fault struct {
	Field   string                `json:"field,omitempty" doc:"Path of the field, such as grants[0].roles[1]."`
	Reason  string                `json:"reason,omitempty" doc:"What is wrong with it."`
	Line    int                   `json:"line,omitzero" doc:"Line of the body on which the document begins."`
	Account policies.AccountID    `json:"account,omitempty" doc:"The document's account, if it could be read."`
	Errors  []policies.FieldError `json:"errors,omitempty" doc:"What is wrong in the document."`
}

// NewProblem is a problem of type t. Detail is shown to the caller.
func NewProblem(t problem.Type, detail string) *Problem {
	kind := kindOf(t)
	p := &Problem{Type: kind.Type, Title: kind.Title, Status: kind.Status, Detail: detail}
	switch p.Status {
	case http.StatusUnauthorized:
		p.set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		p.set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	return p
}

// Error is the detail, or the title without one.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// GetStatus is what huma answers with.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders is what huma sends along.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType is application/problem+json.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func (p *Problem) set(name, value string) {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
}

func (p *Problem) fields(errors ...policies.FieldError) *Problem {
	for _, e := range errors {
		p.Errors = append(p.Errors, Fault{Field: e.Field, Reason: e.Reason})
	}
	return p
}

// FromError is the one place where errors become problems: those of the domain
// (policies/errors.go), of the store and of the engine by their kinds, everything else as
// a 500 that tells nothing. It never returns nil; write says that the request was
// to change something.
func FromError(err error, write bool) *Problem {
	nothing := problem.Unavailable
	if write {
		nothing = problemNothingChanged
	}
	var (
		already      *Problem
		malformed    *policies.MalformedError
		invalid      *policies.InvalidError
		notFound     *policies.NotFoundError
		forbidden    *policies.ForbiddenError
		state        *policies.StateError
		inUse        *policies.InUseError
		taken        *policies.TakenError
		precondition *policies.PreconditionError
		down         *store.UnavailableError
		behind       *authz.RevisionError
		notReady     *authz.UnavailableError
		noProvider   *identity.UnavailableError
		reused       *store.IdempotencyError
		cursor       *store.CursorError
		limit        *store.LimitError
		bodyTooLarge *http.MaxBytesError
		tooLarge     *policies.TooLargeError
	)
	switch {
	case errors.As(err, &already):
		return already
	case errors.Is(err, server.ErrUnauthorized):
		return NewProblem(problem.Unauthorized, err.Error())
	case errors.As(err, &malformed):
		return NewProblem(problem.Malformed, malformed.Error()).fields(policies.FieldError{Field: malformed.Where, Reason: malformed.Reason})
	case errors.As(err, &invalid):
		return NewProblem(problemInvalid, countFields(len(invalid.Errors))).fields(invalid.Errors...)
	case errors.As(err, &notFound):
		return NewProblem(problem.NotFound, notFound.Error())
	case errors.As(err, &forbidden):
		return NewProblem(problem.Forbidden, forbidden.Reason)
	case errors.As(err, &state):
		p := NewProblem(problemState, state.Error())
		p.Member, p.State, p.Event = state.Member, state.Status, state.Event
		return p
	case errors.As(err, &inUse):
		p := NewProblem(problemInUse, inUse.Error())
		p.Count, p.Uses = inUse.Count, inUse.Uses
		return p
	case errors.As(err, &taken):
		return NewProblem(problemTaken, taken.Error()).fields(policies.FieldError{Field: taken.Field, Reason: taken.Reason})
	case errors.As(err, &precondition):
		p := NewProblem(problemPrecondition, precondition.Error())
		p.ETag = precondition.ETag
		return p
	case errors.As(err, &down):
		if down.OutcomeUnknown {
			return NewProblem(problemOutcomeUnknown, "The database went away while the change was being committed.")
		}
		return NewProblem(nothing, "The database does not answer.")
	case errors.As(err, &behind):
		p := NewProblem(problem.RevisionBehind, fmt.Sprintf("Revision %d is not here yet; the present one is %d.", behind.Want, behind.Have))
		p.Revision = &behind.Have
		return p
	case errors.As(err, &notReady):
		return NewProblem(nothing, "The data is not loaded yet.")
	case errors.As(err, &noProvider):
		return NewProblem(nothing, "The OpenID provider does not answer, so that the token cannot be verified.")
	case errors.As(err, &reused):
		return NewProblem(problemIdempotency, reused.Error())
	case errors.As(err, &limit):
		p := NewProblem(problemTooMany, limit.Error())
		p.set("Retry-After", strconv.Itoa(int(limit.Retry/time.Second)+1))
		return p
	case errors.As(err, &cursor):
		return NewProblem(problem.Malformed, cursor.Error()).fields(policies.FieldError{Field: "cursor", Reason: "is none of this list's"})
	case errors.As(err, &bodyTooLarge):
		return NewProblem(problem.TooLarge, fmt.Sprintf("The body may have %d bytes.", bodyTooLarge.Limit))
	case errors.As(err, &tooLarge):
		return NewProblem(problem.TooLarge, tooLarge.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if write {
			return NewProblem(problemOutcomeUnknown, "The request ran out of time.")
		}
		return NewProblem(nothing, "The request ran out of time.")
	}
	return NewProblem(problem.Internal, "The cause is in the server's log.")
}

func countFields(n int) string {
	if n == 1 {
		return "One field is invalid."
	}
	return fmt.Sprintf("%d fields are invalid.", n)
}

// WriteProblem answers with p. Headers that are set already stay.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	var body bytes.Buffer
	// What a problem quotes may come from the request, and need not be valid UTF-8.
	if err := json.MarshalWrite(&body, p, jsontext.AllowInvalidUTF8(true)); err != nil {
		body.Reset()
		body.WriteString(`{"type":"` + string(problem.Internal) + `","status":` + strconv.Itoa(p.Status) + `}`)
	}
	header := w.Header()
	maps.Copy(header, p.header)
	header.Set("Content-Type", p.ContentType(""))
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body.Bytes()) // the client may be gone
}

// ProblemTable is the table of problems as Markdown, for docs/errors.md.
func ProblemTable() string {
	var b strings.Builder
	b.WriteString("| status | type | meaning |\n| --- | --- | --- |\n")
	for _, k := range Problems {
		fmt.Fprintf(&b, "| %d | `%s` | **%s.** %s |\n", k.Status, k.Type, k.Title, k.Means)
	}
	return b.String()
}

// Overloaded is the answer to a request that finds no place.
func Overloaded(r *http.Request) *Problem {
	kind := problem.Unavailable
	if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.URL.Path, "/v1/") {
		kind = problemNothingChanged
	}
	return NewProblem(kind, "Too many requests are under way.")
}
