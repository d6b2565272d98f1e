package feed

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies/signing"
)

// ServeSearch handles POST /v1/feed/search: what a sidecar passes on that has not
// the whole platform.
func (s *Server) ServeSearch(searcher authz.Searcher) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req wire.SearchRequest
		s.post(w, r, &req, func(from posted) {
			search, err := req.Search()
			if err != nil {
				s.refused(w, http.StatusBadRequest, problem.Malformed, err.Error())
				return
			}
			s.metrics.lookups.Inc()
			found, err := searcher.Search(r.Context(), from.least, search)
			if err != nil {
				s.refuseSearch(w, r, err)
				return
			}
			text, err := s.searchAnswer(found, from)
			if err != nil {
				s.refuseSearch(w, r, err)
				return
			}
			_, _ = w.Write(text) //nolint:gosec // JSON, and said to be; the asker is gone, or sees the end
		})
	})
}

// searchAnswer is found as it is sent, signed.
func (s *Server) searchAnswer(found authz.Found, from posted) ([]byte, error) {
	answer := wire.SearchResponse{
		Platform: s.o.Source.State().Platform(), Revision: found.Revision, IDs: found.IDs, Guarded: found.Guarded,
	}
	if found.Next != nil {
		answer.Next = &wire.SearchPlace{Revision: found.Next.Revision, After: found.Next.After}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	text = text[:len(text)-1] // signatures are the last member
	signatures, err := from.sign(s.o.Signer, signing.Search, sha256.Sum256(text))
	if err != nil {
		return nil, err
	}
	return append(text, signatures+"}"...), nil
}

func (s *Server) refuseSearch(w http.ResponseWriter, r *http.Request, err error) {
	var place *authz.PlaceError
	var revision *authz.RevisionError
	var unavailable *authz.UnavailableError
	switch {
	case errors.As(err, &place):
		s.refused(w, http.StatusGone, problem.Malformed, place.Reason)
	case errors.As(err, &revision):
		s.refused(w, http.StatusServiceUnavailable, problem.RevisionBehind, revision.Error())
	case errors.As(err, &unavailable):
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, unavailable.Reason)
	case r.Context().Err() != nil:
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "the request was cut off")
	default:
		s.o.Logger.LogAttrs(r.Context(), slog.LevelError, "a search failed", slog.Any("error", err))
		s.refused(w, http.StatusInternalServerError, problem.Internal, "")
	}
}
