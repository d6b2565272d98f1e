package feed

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// ProblemType is the stable name of a kind of fault (RFC 9457, 3.1.1).
type ProblemType string

// The problems that the feed's endpoints answer with.
const (
	ProblemMalformed     ProblemType = "urn:usher:problem:malformed"      // 400: a parameter, a header or JSON
	ProblemMethod        ProblemType = "urn:usher:problem:method"         // 405
	ProblemOtherPlatform ProblemType = "urn:usher:problem:other-platform" // 409: the asker follows another platform
	ProblemTooLarge      ProblemType = "urn:usher:problem:too-large"      // 413
	ProblemMediaType     ProblemType = "urn:usher:problem:media-type"     // 415
	ProblemInternal      ProblemType = "urn:usher:problem:internal"       // 500
	ProblemUnavailable   ProblemType = "urn:usher:problem:unavailable"    // 503: not started, stopping, or full
	ProblemBehind        ProblemType = "urn:usher:problem:behind"         // 503: this replica has not the revision yet
)

// Problem is an answer that is not what was asked for (RFC 9457).
type Problem struct {
	Type   ProblemType `json:"type"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitempty"`
	// RetryAfter becomes the header of that name, in whole seconds, rounded up; zero:
	// none.
	RetryAfter time.Duration `json:"-"`
}

// Write answers with p as application/problem+json. An error in writing is the
// caller's connection that is gone: there is nobody to tell.
func (p Problem) Write(w http.ResponseWriter) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	body, err := json.Marshal(p)
	if err != nil { // detail quoted text that is not UTF-8
		p.Detail = ""
		body, _ = json.Marshal(p) //nolint:errchkjson // constants only are left
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}
