package ondemand

import (
	"math"

	"github.com/maypok86/otter/v2"
)

// memoryKey is a fact's place in memory. A new generation makes all older ones
// unreachable.
type memoryKey struct {
	generation uint32
	name       name
}

// memory holds facts, bounded by their weight in bytes; what is used least goes.
type memory struct {
	cache *otter.Cache[memoryKey, *fact]
}

func newMemory(limit int64) (*memory, error) {
	cache, err := otter.New(&otter.Options[memoryKey, *fact]{
		MaximumWeight: uint64(max(limit, 1)),
		Weigher: func(_ memoryKey, f *fact) uint32 {
			return uint32(min(f.weight(), math.MaxUint32))
		},
		// By default a goroutine is started to keep the order of use and to evict. It costs
		// more than its work, which is little: what it wakes takes the core from a check that
		// is about to wait for Redis.
		Executor: func(work func()) { work() },
	})
	if err != nil {
		return nil, err
	}
	return &memory{cache: cache}, nil
}

func (m *memory) get(g *generation, n name) *fact {
	f, _ := m.cache.GetIfPresent(memoryKey{generation: g.id, name: n})
	return f
}

func (m *memory) put(g *generation, f *fact) {
	m.cache.Set(memoryKey{generation: g.id, name: f.name}, f)
}

// drop forgets everything, such as what an ended generation left.
func (m *memory) drop() { m.cache.InvalidateAll() }

func (m *memory) close() { m.cache.StopAllGoroutines() }

func (m *memory) bytes() uint64 { return m.cache.WeightedSize() }
