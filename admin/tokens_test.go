package admin_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// TestTokenUses: the list of tokens says which were used, and using one is no change.
func TestTokenUses(t *testing.T) {
	t.Parallel()
	p := start(t)
	used, unused := p.newToken(policies.ScopeAudit), p.newToken(policies.ScopeAudit)
	head := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body
	begun := time.Now().Add(-time.Second)
	p.do("GET", "/v1/audit", nil, with("Authorization", "Bearer "+used)).want(200)
	p.do("GET", "/v1/policies", nil, with("Authorization", "Bearer "+used)).want(403)
	require.Equal(t, head, p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body)
	p.stop() // which writes down what is not yet

	s, err := store.Open(t.Context(), store.Options{URL: p.database})
	require.NoError(t, err)
	defer s.Close()
	list, err := s.ListTokens(t.Context(), store.Page{})
	require.NoError(t, err)
	uses := 0
	for _, item := range list.Items {
		if at := item.Value.LastUsedAt; at != nil {
			require.True(t, at.After(begun), at)
			uses++
		}
	}
	require.NotEmpty(t, unused)
	require.Equal(t, len(list.Items)-1, uses, "the platform's own and the used one")
	for _, item := range list.Items {
		_, err := s.RevokeToken(context.Background(), store.Call{Actor: store.Actor{Local: true}}, item.Value.ID)
		require.NoError(t, err, "a use keeps no token")
	}
}
