// Package problem writes the errors of usher's HTTP endpoints: RFC 9457 documents
// with types that stay. It is the one list of these types for the check API; what a
// type means to a client is in docs.
package problem

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Type is the stable name of a kind of fault (RFC 9457, 3.1.1).
type Type string

// The types of problem.
const (
	Malformed      Type = "urn:usher:problem:malformed"       // 400
	ActAs          Type = "urn:usher:problem:act-as"          // 400: Usher-Act-As where nobody can be acted for
	Unauthorized   Type = "urn:usher:problem:unauthorized"    // 401
	Forbidden      Type = "urn:usher:problem:forbidden"       // 403
	NotFound       Type = "urn:usher:problem:not-found"       // 404
	Method         Type = "urn:usher:problem:method"          // 405
	OtherPlatform  Type = "urn:usher:problem:other-platform"  // 409: the asker of the feed follows another platform
	TooLarge       Type = "urn:usher:problem:too-large"       // 413
	Internal       Type = "urn:usher:problem:internal"        // 500
	RevisionBehind Type = "urn:usher:problem:revision-behind" // 503: the revision asked for is not here yet
	Unavailable    Type = "urn:usher:problem:unavailable"     // 503
)

// Problem is an error as the client sees it. It holds public text only; the cause
// goes to the log.
type Problem struct {
	Type   Type   `json:"type"`
	Title  string `json:"title"` // default: the status's text
	Status int    `json:"status"`
	// Detail says what is wrong with this request.
	Detail string `json:"detail,omitempty"`
	// Where is the JSON pointer of the value, or the header, that is wrong.
	Where string `json:"where,omitempty"`
	// TraceID names the log record of a 500.
	TraceID string `json:"trace_id,omitempty"`
	// RetryAfter becomes the header of that name, in whole seconds, rounded up; zero:
	// none.
	RetryAfter time.Duration `json:"-"`
}

// Write answers with p. An error in writing is a connection that is gone: there is
// nobody to tell.
func (p Problem) Write(w http.ResponseWriter) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	body, err := json.Marshal(p)
	if err != nil { // a detail that quotes what is not UTF-8
		p.Detail, p.Where = "", ""
		body, _ = json.Marshal(p) // only constants are left
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	p.Head(h)
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// Head sets the headers that p has in whatever form it is sent: when to come back, and
// how to say who one is.
func (p Problem) Head(h http.Header) {
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
}
