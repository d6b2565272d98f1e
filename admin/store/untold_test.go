package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// An owner whose news cannot be made holds up no other, is counted and named, and is
// told by a later call.
func TestNewsThatFail(t *testing.T) {
	t.Parallel()
	clock, registry, outbox := newClock(), prometheus.NewRegistry(), &postbox{}
	s := storetest.New(t, store.Options{Clock: clock.Now, Registerer: registry, Outbox: outbox})
	newFixture(t, s, clock)
	_, err := s.PutEnvironment(t.Context(), call(), "other", policies.Environment{ID: "e9", Name: "e9"})
	require.NoError(t, err)
	broken := errors.New("broken")
	fails := map[policies.AccountID]bool{owner: true}
	tell := func() error {
		return s.TellNews(t.Context(), clock.Now().Add(time.Minute), func(_ context.Context, of policies.AccountID, first policies.Revision) ([]store.Notice, policies.Revision, error) {
			if fails[of] {
				return nil, 0, broken
			}
			header, _ := snapshot(t, s)
			require.LessOrEqual(t, first, header.Revision)
			return []store.Notice{{Kind: store.NoticeChanged, Owner: of}}, header.Revision, nil
		})
	}
	require.NoError(t, s.TellNews(t.Context(), clock.Now().Add(-time.Hour), nil), "nothing is due yet")
	outbox.notices = nil
	for range 2 {
		err = tell()
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, string(owner))
	}
	require.Equal(t, []store.Notice{{Kind: store.NoticeChanged, Owner: "other"}}, outbox.notices)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "usher_news_failures_total" {
			require.InDelta(t, 2, f.GetMetric()[0].GetCounter().GetValue(), 0)
			fails = nil
		}
	}
	require.Nil(t, fails, "the metric is there")
	require.NoError(t, tell())
	require.Equal(t, owner, outbox.notices[1].Owner)
	require.NoError(t, tell(), "and that was all")
	require.Len(t, outbox.notices, 2)
}
