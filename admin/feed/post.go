package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// posted is what a POST beside the stream says beyond its body.
type posted struct {
	least  policies.Revision // demanded; 0: none
	digest policies.Hash     // of the body
	nonce  string            // that the answer is signed for
}

// post decodes a POST beside the stream into req, of which only so many are under way
// at once, and calls answer unless something is wrong with it.
func (s *Server) post(w http.ResponseWriter, r *http.Request, req interface{ Validate() error }, answer func(posted)) {
	if !s.enter() {
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "the feed is not served now")
		return
	}
	defer s.work.Done()
	if !s.admit(w, r, http.MethodPost) {
		return
	}
	if !s.place(r.Context()) {
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "this replica has as many look-ups as it takes")
		return
	}
	defer func() { <-s.posts }()
	got, err := decodePost(w, r, req)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		s.refused(w, http.StatusRequestEntityTooLarge, problem.TooLarge, fmt.Sprintf("the body is over %d bytes", policies.MaxBodyBytes))
	case err != nil:
		s.refused(w, http.StatusBadRequest, problem.Malformed, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		answer(got)
	}
}

// place takes one of the places for POSTs. Where all are taken it waits for one as long as
// for a revision: whoever is sent away at once asks again at once. How many wait is bounded
// by how many requests the admin server takes.
func (s *Server) place(ctx context.Context) bool {
	select {
	case s.posts <- struct{}{}:
		return true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.CatchUpWait)
	defer cancel()
	select {
	case s.posts <- struct{}{}:
		return true
	case <-s.done:
	case <-ctx.Done():
	}
	return false
}

// decodePost reads a request.
func decodePost(w http.ResponseWriter, r *http.Request, req interface{ Validate() error }) (posted, error) {
	got := posted{nonce: r.Header.Get(wire.NonceHeader)}
	if !wire.ValidNonce(got.nonce) {
		return got, errors.New("header " + wire.NonceHeader + " is not up to 64 digits of lower-case hex")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return got, errors.New("the body is not application/json")
	}
	if len(r.URL.RawQuery) > 0 {
		return got, errors.New("this endpoint has no parameters")
	}
	for _, value := range r.Header.Values(wire.MinRevisionHeader) {
		revision, err := policies.ParseRevision(value)
		if err != nil {
			return got, fmt.Errorf("header %s: %w", wire.MinRevisionHeader, err)
		}
		got.least = max(got.least, revision)
	}
	digest := sha256.New()
	body := io.TeeReader(http.MaxBytesReader(w, r.Body, policies.MaxBodyBytes), digest)
	if err := json.UnmarshalRead(body, req, json.RejectUnknownMembers(true)); err != nil {
		return got, err
	}
	got.digest = policies.Hash(digest.Sum(nil))
	return got, req.Validate()
}

// sign is the last member of an answer whose digest until here is given, for whom it
// was made; empty without keys.
func (p posted) sign(signer *signing.Signer, purpose signing.Purpose, answer policies.Hash) (string, error) {
	signatures, err := signer.Sign(purpose, wire.AnswerText(answer, p.digest, p.nonce))
	if err != nil || len(signatures) == 0 {
		return "", err
	}
	member, err := json.Marshal(signatures)
	return `,"signatures":` + string(member), err
}
