package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

func TestAccounts(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	mia := policies.Account{ID: "mia", Email: " Mia@example.com", DisplayName: "Mia"}
	created, err := s.PutAccount(t.Context(), store.Call{}, mia)
	require.NoError(t, err)
	require.True(t, created.Created)
	require.True(t, created.Changed)
	require.Equal(t, policies.Revision(2), created.Revision)
	require.Equal(t, "Mia@example.com", created.Value.Email)
	same, err := s.PutAccount(t.Context(), store.Call{}, mia)
	require.NoError(t, err)
	require.False(t, same.Changed)
	require.Equal(t, created.ETag, same.ETag)
	require.Equal(t, created.Revision, same.Revision)
}
