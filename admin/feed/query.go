package feed

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// actAsHeader is refused on the feed's endpoints (api.md, Who calls).
const actAsHeader = "Usher-Act-As"

// query is what an asker of the stream says about itself.
type query struct {
	mode     wire.Mode
	platform string
	from     *place // where it is; nil: it has nothing
	nonce    string // that heartbeats name
	replay   int    // mode notices: how far back a fresh start shall go
}

// parseQuery is strict: a parameter that is unknown, repeated or malformed is an
// error that names it.
func parseQuery(values url.Values, maxReplay int) (query, error) {
	q := query{mode: wire.ModeResident, replay: maxReplay}
	for name, v := range values {
		if !slices.Contains([]string{"mode", "platform", "revision", "hash", "replay", "nonce"}, name) {
			return q, fmt.Errorf("unknown parameter %q", name)
		}
		if len(v) != 1 {
			return q, fmt.Errorf("parameter %s is given more than once", name)
		}
	}
	if values.Has("mode") {
		if q.mode = wire.Mode(values.Get("mode")); !q.mode.Valid() {
			return q, fmt.Errorf("parameter mode is none of %v", wire.Modes)
		}
	}
	q.platform = values.Get("platform")
	if q.nonce = values.Get("nonce"); !wire.ValidNonce(q.nonce) {
		return q, fmt.Errorf("parameter nonce is not up to 64 digits of lower-case hex")
	}
	if values.Has("replay") {
		n, err := strconv.ParseUint(values.Get("replay"), 10, 31)
		if err != nil {
			return q, fmt.Errorf("parameter replay is not a number of revisions")
		}
		q.replay = min(int(n), maxReplay)
	}
	if values.Has("revision") != values.Has("hash") {
		return q, fmt.Errorf("parameters revision and hash go together")
	}
	if values.Has("revision") {
		revision, err := policies.ParseRevision(values.Get("revision"))
		if err != nil {
			return q, fmt.Errorf("parameter revision: %w", err)
		}
		var hash policies.Hash
		if err := hash.UnmarshalText([]byte(values.Get("hash"))); err != nil {
			return q, fmt.Errorf("parameter hash: %w", err)
		}
		q.from = &place{revision, hash}
	}
	return q, nil
}

// refused answers with a problem and counts it.
func (s *Server) refused(w http.ResponseWriter, status int, kind problem.Type, detail string) {
	p := problem.Problem{Type: kind, Status: status, Detail: detail}
	if status == http.StatusServiceUnavailable {
		p.RetryAfter = retryAfter
	}
	s.metrics.refusals.WithLabelValues(strconv.Itoa(status)).Inc()
	p.Write(w)
}

// admit answers what both endpoints refuse; false: it has answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, method string) bool {
	switch {
	case r.Method != method:
		w.Header().Set("Allow", method)
		s.refused(w, http.StatusMethodNotAllowed, problem.Method, "")
		return false
	case r.Header.Get(actAsHeader) != "":
		s.refused(w, http.StatusBadRequest, problem.ActAs, "header "+actAsHeader+" is not for this endpoint")
		return false
	case s.o.Source.State() == nil:
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "this replica has no state yet")
		return false
	}
	return true
}
