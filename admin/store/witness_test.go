package store_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// A database that was put back from a backup looks as it did then: that commits are
// missing is known only to who has seen them.
func TestALostRevisionBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: database})
	_, err := s.PutAccount(t.Context(), call(), policies.Account{ID: "one", Email: "one@example.com"})
	require.NoError(t, err)
	head, err := s.Head(t.Context())
	require.NoError(t, err)

	stays := func(why string, revision policies.Revision, hash policies.Hash) {
		require.NoError(t, s.Witness(t.Context(), revision, hash), why)
		now, err := s.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, head, now, why)
	}
	stays("the end of the log", head.Revision, head.Hash)
	stays("what the log has gone on from, with whatever hash", head.Revision-1, policies.Hash{1})

	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := s.Witness(t.Context(), head.Revision+2, policies.Hash{1}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	head, err = s.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(1, 0), head.Revision, "two who saw it begin one epoch")

	require.NoError(t, s.Witness(t.Context(), head.Revision, policies.Hash{1}))
	head, err = s.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(2, 0), head.Revision, "another revision had this number")

	require.NoError(t, s.Witness(t.Context(), policies.NewRevision(5, 7), policies.Hash{1}))
	head, err = s.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, policies.NewRevision(6, 0), head.Revision, "epochs were lost too")
	require.Nil(t, verify(t, s).Broken)
}
