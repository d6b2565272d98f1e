package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	f := open(t)
	end := f.clock.Now().Add(time.Hour)
	made, secret, err := f.CreateToken(t.Context(), call(), "deploy", []policies.Scope{policies.ScopeResources, policies.ScopeAudit, policies.ScopeAudit}, &end)
	require.NoError(t, err)
	require.True(t, policies.LooksLikeToken(secret))
	require.Equal(t, []policies.Scope{policies.ScopeAudit, policies.ScopeResources}, made.Value.Scopes)
	_, objects := snapshot(t, f.Store)
	require.Contains(t, objects[objectID{policies.KindToken, "", made.Value.ID}], policies.HashToken(secret))
	list, err := f.ListTokens(t.Context(), store.Page{})
	require.NoError(t, err)
	require.Equal(t, []store.Item[store.Token]{{Value: made.Value, ETag: made.ETag, Revision: made.Revision}}, list.Items)

	// The last use: no revision, never back, and only of tokens that are there.
	used := f.clock.Now()
	require.NoError(t, f.NoteTokenUses(t.Context(), map[string]time.Time{made.Value.ID: used, "nothing": used}))
	require.NoError(t, f.NoteTokenUses(t.Context(), map[string]time.Time{made.Value.ID: used.Add(-time.Hour)}))
	list, err = f.ListTokens(t.Context(), store.Page{})
	require.NoError(t, err)
	require.WithinDuration(t, used, *list.Items[0].Value.LastUsedAt, 0)
	require.Equal(t, made.ETag, list.Items[0].ETag)

	_, err = f.RevokeToken(t.Context(), call(), made.Value.ID)
	require.NoError(t, err)
	_, err = f.RevokeToken(t.Context(), call(), made.Value.ID)
	requireNotFound(t, err, "token")
	_, _, err = f.CreateToken(t.Context(), call(), "", []policies.Scope{"everything"}, new(f.clock.Now()))
	var invalid *policies.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Errors, 3)
	entries, err := f.Audit(t.Context(), store.AuditFilter{Kind: policies.KindToken}, store.Page{})
	require.NoError(t, err)
	require.Len(t, entries.Items, 2)
	for _, e := range entries.Items {
		require.NotContains(t, string(e.Before)+string(e.After), policies.HashToken(secret))
	}
	requireSound(t, f.Store)
}
