package sidecar

import (
	"context"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

var (
	_ authz.Decider  = (*Sidecar)(nil)
	_ authz.Searcher = (*Sidecar)(nil)
)

// Check implements [authz.Decider], for a program that embeds the sidecar: the same
// answer as over HTTP, and counted as one. Before Start it is an
// [authz.UnavailableError].
func (s *Sidecar) Check(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error) {
	return s.api.Ask(ctx, atLeast, q)
}

// Decide implements [authz.Decider].
func (s *Sidecar) Decide(ctx context.Context, atLeast policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	return s.decider.Decide(ctx, atLeast, questions)
}

// Search implements [authz.Searcher].
func (s *Sidecar) Search(ctx context.Context, atLeast policies.Revision, search authz.Search) (authz.Found, error) {
	return s.searcher.Search(ctx, atLeast, search)
}
