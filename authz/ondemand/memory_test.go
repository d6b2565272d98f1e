package ondemand

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// heap is what lives in the heap. The tests that run beside this one must not count:
// it is not parallel.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryIsBounded puts thirty times as much into memory as it may hold, and looks
// at what it holds by its own count and by the heap's.
func TestMemoryIsBounded(t *testing.T) {
	const limit, facts = 4 << 20, 400_000
	m, err := newMemory(limit)
	require.NoError(t, err)
	defer m.close()
	g := &generation{id: 1}
	before := heap()
	for i := range facts {
		m.put(g, newFact(subjectOf(policies.AccountID("account-"+strconv.Itoa(i))), 1, 1))
	}
	m.cache.CleanUp()
	require.LessOrEqual(t, m.bytes(), uint64(limit))
	require.Greater(t, m.bytes(), uint64(limit/2), "what may stay stays")
	held := heap() - before
	t.Logf("%d bytes by weight, %d in the heap", m.bytes(), held)
	require.LessOrEqual(t, held, uint64(2*limit))
	runtime.KeepAlive(m)
}
