package dev

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// tokenName is the service token's.
const tokenName = "usher dev"

// knownToken tells whether the database has the token id, with every scope and
// without an end.
func knownToken(ctx context.Context, s *store.Store, id string) (bool, error) {
	page := store.Page{Limit: store.MaxPage}
	for {
		list, err := s.ListTokens(ctx, page)
		if err != nil {
			return false, fmt.Errorf("list the service tokens: %w", err)
		}
		for _, item := range list.Items {
			if item.Value.ID == id && item.Value.ExpiresAt == nil && hasEveryScope(item.Value.Scopes) {
				return true, nil
			}
		}
		if list.NextCursor == "" {
			return false, nil
		}
		page.Cursor = list.NextCursor
	}
}

func hasEveryScope(have []policies.Scope) bool {
	for _, scope := range policies.Scopes {
		if !slices.Contains(have, scope) {
			return false
		}
	}
	return true
}
