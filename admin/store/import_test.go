package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies/policiestest"
)

func TestImportOfWorldsIsIdentity(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	before := newClock().Now()
	for seed := range uint64(150) {
		world, err := policiestest.NewWorld(policiestest.SeededDice(seed%40), before)
		require.NoError(t, err)
		report, err := s.Import(t.Context(), call(), lines(world.Documents...), nil)
		require.NoError(t, err)
		t.Logf("seed %d: %d documents, errors %v", seed, report.Imported, report.Errors)
		if seed >= 40 {
			continue
		}
		for _, d := range world.Documents {
			if len(report.Errors) > 0 {
				continue
			}
			exported, err := s.Export(t.Context(), d.Account.ID)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(d, exported.Value))
		}
	}
	requireSound(t, s)
}
