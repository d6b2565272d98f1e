package feed

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// ServeSearch handles POST /v1/feed/search: what a sidecar passes on that has not
// the whole platform.
func (s *Server) ServeSearch(searcher authz.Searcher) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "the feed is not served now")
			return
		}
		defer s.work.Done()
		if !s.admit(w, r, http.MethodPost) {
			return
		}
		select {
		case s.lookups <- struct{}{}:
			defer func() { <-s.lookups }()
		default:
			s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "this replica has as many look-ups as it takes")
			return
		}
		search, least, err := decodeSearch(w, r)
		if err != nil {
			s.refused(w, http.StatusBadRequest, problem.Malformed, err.Error())
			return
		}
		s.metrics.lookups.Inc()
		found, err := searcher.Search(r.Context(), least, search)
		if err != nil {
			s.refuseSearch(w, r, err)
			return
		}
		answer := wire.SearchResponse{Platform: s.o.Source.State().Platform(), Revision: found.Revision, IDs: found.IDs}
		if found.Next != nil {
			answer.Next = &wire.SearchPlace{Revision: found.Next.Revision, After: found.Next.After}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.MarshalWrite(w, answer) // the asker is gone, or sees the end
	})
}

func decodeSearch(w http.ResponseWriter, r *http.Request) (authz.Search, policies.Revision, error) {
	var req wire.SearchRequest
	err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, policies.MaxBodyBytes), &req, json.RejectUnknownMembers(true))
	if err != nil {
		return authz.Search{}, 0, err
	}
	var least policies.Revision
	for _, value := range r.Header.Values(wire.MinRevisionHeader) {
		revision, err := policies.ParseRevision(value)
		if err != nil {
			return authz.Search{}, 0, err
		}
		least = max(least, revision)
	}
	search, err := req.Search()
	return search, least, err
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
