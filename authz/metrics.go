package authz

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
)

// engineMetrics are one engine's.
type engineMetrics struct {
	hits       stripes
	misses     prometheus.Counter
	failed     prometheus.Counter
	late       prometheus.Counter
	evaluation prometheus.Histogram
}

func newEngineMetrics(e *Engine, to prometheus.Registerer) (*engineMetrics, error) {
	m := &engineMetrics{
		misses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_engine_cache_misses_total",
			Help: "Checks that needed an evaluation, or waited for one of the same question.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_engine_evaluation_failures_total",
			Help: "Evaluations of Rego that gave an error. Each was a check without an answer: should be 0.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_engine_min_revision_timeouts_total",
			Help: "Checks whose min_revision did not arrive in time. Many: the feed is behind.",
		}),
		evaluation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "usher_engine_evaluation_seconds",
			Help:                        "Time that one evaluation of Rego took; its count is the number of evaluations.",
			NativeHistogramBucketFactor: 1.1,
			Buckets:                     prometheus.ExponentialBuckets(0.000_01, 4, 8), //nolint:mnd // 10 µs to 160 ms
		}),
	}
	if to == nil {
		return m, nil
	}
	for _, c := range append([]prometheus.Collector{m.misses, m.failed, m.late, m.evaluation}, m.observed(e)...) {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observed are the metrics that are read off the engine when they are asked for.
func (m *engineMetrics) observed(e *Engine) []prometheus.Collector {
	ofState := func(get func(*State) float64) func() float64 {
		return func() float64 {
			if s := e.State(); s != nil {
				return get(s)
			}
			return 0
		}
	}
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "usher_engine_cache_hits_total",
			Help: "Checks that were answered from the cache.",
		}, func() float64 { return float64(m.hits.sum()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_engine_cache_entries",
			Help: "Cached pairs of subject and resource, stale ones among them.",
		}, func() float64 { return float64(e.cache.len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_engine_revision",
			Help: "Revision of the state in force; 0 before the first.",
		}, ofState(func(s *State) float64 { return float64(s.Revision()) })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_engine_accounts",
			Help: "Accounts in the state in force.",
		}, ofState(func(s *State) float64 { return float64(s.Accounts()) })),
	}
}

// evaluated counts an evaluation that began at start.
func (m *engineMetrics) evaluated(start time.Time) { m.evaluation.Observe(time.Since(start).Seconds()) }

// fails counts an evaluation that gave an error, but for that of a caller who went
// away.
func (m *engineMetrics) fails(ctx context.Context) {
	if ctx.Err() == nil {
		m.failed.Inc()
	}
}

// stripes is a counter that many cores add to: on one word they would wait for
// each other at every hit. Goroutines stay with their stripe, and so does its cache
// line with their core: with a stripe drawn at each hit, half of the lines that two
// cores meet are the other's.
type stripes struct {
	of [64]struct {
		n atomic.Uint64
		_ [56]byte // a cache line each
	}
}

const (
	stackBits   = 11                    // the least stack of a goroutine is 2 KiB
	fibonacci   = 0x9e37_79b9_7f4a_7c15 // 2^64 / φ: spreads neighbours
	stripeShift = 64 - 6                // 64 stripes
)

func (s *stripes) inc() {
	var here byte
	goroutine := uint64(uintptr(unsafe.Pointer(&here))) >> stackBits //nolint:gosec // a number that tells goroutines apart, never followed
	s.of[goroutine*fibonacci>>stripeShift].n.Add(1)
}

func (s *stripes) sum() uint64 {
	var sum uint64
	for i := range s.of {
		sum += s.of[i].n.Load()
	}
	return sum
}
