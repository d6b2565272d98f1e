package admin

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Whatever order words come in, and however many are missing or come twice, the engine
// follows the log, and never begins anew. A change that is not the log's is not taken.
func TestTailHears(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	tail, err := newTail(s, engine, Options{Registry: prometheus.NewRegistry()}.withDefaults())
	require.NoError(t, err)
	require.NoError(t, tail.rebuild(t.Context()))
	began := engine.State().Revision()

	const writes = 6
	for i := range writes {
		_, err := s.PutAccount(t.Context(), store.Call{Actor: store.Actor{Local: true}}, policies.Account{ID: "mia", Email: "mia@example.com", DisplayName: fmt.Sprint(i)})
		require.NoError(t, err)
	}
	changes, err := s.Changes(t.Context(), began, writes)
	require.NoError(t, err)
	require.Len(t, changes, writes)
	at := func() policies.Revision { return engine.State().Revision() - began }
	hear := func(c policies.Change) { tail.hear(t.Context(), store.Word{Revision: c.Revision, Change: &c}) }

	hear(changes[0])
	require.EqualValues(t, 1, at(), "the next is taken as it is, and nothing else is read")
	hear(changes[0])
	tail.hear(t.Context(), store.Word{Revision: changes[0].Revision})
	require.EqualValues(t, 1, at(), "nobody looks for what is there")
	forged := changes[1]
	forged.Hash[0]++
	hear(forged)
	require.EqualValues(t, writes, at(), "what does not follow is read from the log")
	hear(changes[writes-1])
	hear(changes[1])
	require.EqualValues(t, writes, at())
	require.Equal(t, changes[writes-1].Hash, engine.State().Hash())
	require.Len(t, tail.recent.after(began, writes+1), writes)
	var rebuilds dto.Metric
	require.NoError(t, tail.rebuilds.Write(&rebuilds))
	require.InDelta(t, 1, rebuilds.GetCounter().GetValue(), 0, "the first one's")
}
