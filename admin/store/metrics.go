package store

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's; they count whether or not anyone registered them.
type metrics struct {
	writes   *prometheus.HistogramVec
	lockWait prometheus.Histogram
	retries  prometheus.Counter
	unknown  *prometheus.CounterVec
	epochs   prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "usher_store_write_duration_seconds",
			Help:                        "How long writes took, the wait for their turn included, by outcome. Above a second writers queue.",
			NativeHistogramBucketFactor: nativeBucketFactor,
		}, []string{"outcome"}),
		lockWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "usher_store_lock_wait_duration_seconds",
			Help:                        "How long writes waited for the lock that orders them, connection and first reads included.",
			NativeHistogramBucketFactor: nativeBucketFactor,
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_store_write_retries_total",
			Help: "Transactions that were run again after a deadlock or a serialization failure. Should stay near zero.",
		}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_store_unknown_commits_total",
			Help: "Commits whose outcome had to be looked up, by what was found. Any `unknown` was answered as such.",
		}, []string{"found"}),
		epochs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_store_epochs_total",
			Help: "Epochs that this process began. More than one in a week wants an explanation.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.writes, m.lockWait, m.retries, m.unknown, m.epochs} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the store's metrics: %w", err)
		}
	}
	return m, nil
}

// nativeBucketFactor makes a bucket at most 10% wider than the one before.
const nativeBucketFactor = 1.1
