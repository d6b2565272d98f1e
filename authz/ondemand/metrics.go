package ondemand

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// layer is where a fact is looked for.
type layer uint8

const (
	layerMemory layer = iota
	layerRedis
	layerAdmin
	layerEvaluation // not looked for: computed from other facts
)

var layers = [...]string{layerMemory: "memory", layerRedis: "redis", layerAdmin: "admin", layerEvaluation: "evaluation"}

// outcome is how a look-up in one layer ended.
type outcome uint8

const (
	outcomeHit outcome = iota
	outcomeMiss
	outcomeStale    // there, but something that it rests on was touched, or its time is over
	outcomeAhead    // there, but of a revision that the feed has not brought yet
	outcomeOld      // there, but older than the notices that are remembered: the admin is asked
	outcomeRejected // there, but not authentic, too large or malformed
	outcomeError    // the layer did not answer
)

var outcomes = [...]string{
	outcomeHit: "hit", outcomeMiss: "miss", outcomeStale: "stale", outcomeAhead: "ahead",
	outcomeOld: "old", outcomeRejected: "rejected", outcomeError: "error",
}

// fillOutcome is how putting a fact into Redis ended.
type fillOutcome string

const (
	fillWritten  fillOutcome = "written"
	fillDropped  fillOutcome = "dropped" // the queue was full
	fillTooLarge fillOutcome = "too_large"
	fillFailed   fillOutcome = "failed" // Redis refused it, did not answer, or was not asked
)

// metrics of one engine. The label values are closed sets.
type metrics struct {
	lookups  [len(layers)][len(kinds)][len(outcomes)]prometheus.Counter
	latency  [len(layers)]prometheus.Observer
	fills    map[fillOutcome]prometheus.Counter
	breakers *prometheus.GaugeVec
	rounds   prometheus.Counter
	late     prometheus.Counter
}

// newMetrics registers with r, which may be nil.
func newMetrics(r prometheus.Registerer, e *Engine) (*metrics, error) {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_ondemand_lookups_total",
		Help: "Look-ups of facts by layer, kind and outcome. Many rejected in redis: somebody else writes there, or the keys differ between sidecars.",
	}, []string{"layer", "kind", "outcome"})
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "usher_ondemand_lookup_seconds",
		Help:                            "Time of a round trip to redis or admin, and of an evaluation.",
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
		Buckets:                         []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1},
	}, []string{"layer"})
	fills := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_ondemand_redis_fills_total",
		Help: "Facts put into redis by outcome. Many dropped: redis is too slow for what is missing there. Many failed: it is full, read only, or away.",
	}, []string{"outcome"})
	breakers := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "usher_ondemand_breaker_state",
		Help: "State of the circuit breaker before redis and admin: 0 closed, 1 half-open, 2 open (not asked). Anything but 0 for long is bad.",
	}, []string{"layer"})
	m := &metrics{
		fills:    map[fillOutcome]prometheus.Counter{},
		breakers: breakers,
		rounds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_ondemand_repeated_rounds_total",
			Help: "Answers begun anew because the data changed while they were put together.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_ondemand_min_revision_timeouts_total",
			Help: "Calls whose revision did not arrive in time. Many: the feed is behind.",
		}),
	}
	for l := range layers {
		m.latency[l] = latency.WithLabelValues(layers[l])
		for k := range kinds {
			for o := range outcomes {
				m.lookups[l][k][o] = lookups.WithLabelValues(layers[l], kinds[k], outcomes[o])
			}
		}
	}
	for _, o := range []fillOutcome{fillWritten, fillDropped, fillTooLarge, fillFailed} {
		m.fills[o] = fills.WithLabelValues(string(o))
	}
	breakers.WithLabelValues(layers[layerRedis]).Set(0)
	breakers.WithLabelValues(layers[layerAdmin]).Set(0)
	if r == nil {
		return m, nil
	}
	for _, c := range append([]prometheus.Collector{lookups, latency, fills, breakers, m.rounds, m.late}, gauges(e)...) {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// gauges read the engine when they are scraped.
func gauges(e *Engine) []prometheus.Collector {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	return []prometheus.Collector{
		gauge("usher_ondemand_memory_bytes", "About what the facts in memory take; bounded by the memory limit.",
			func() float64 { return float64(e.memory.bytes()) }),
		gauge("usher_ondemand_revision", "Revision that is answered from; 0 before the feed's first word.",
			func() float64 { return float64(e.Revision()) }),
		gauge("usher_ondemand_floor_revision", "Revision from which on notices are remembered. Facts dated earlier need the admin's word.",
			func() float64 { _, floor := e.remembered(); return float64(floor) }),
		gauge("usher_ondemand_remembered_names", "Names that notices touched and that are remembered; bounded.",
			func() float64 { n, _ := e.remembered(); return float64(n) }),
	}
}

func (m *metrics) count(l layer, k kind, o outcome) { m.lookups[l][k][o].Inc() }

// since observes the time that a round trip took.
func (m *metrics) since(l layer, begun time.Time) { m.latency[l].Observe(time.Since(begun).Seconds()) }
