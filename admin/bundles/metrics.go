package bundles

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	builds    prometheus.Histogram
	failures  prometheus.Counter
	size      prometheus.Gauge
	responses *prometheus.CounterVec
}

// newMetrics registers the metrics with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		builds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "usher_bundles_build_seconds", Help: "Time to build a bundle. Beyond --bundle-min-interval, polls are later than promised.",
			NativeHistogramBucketFactor: 1.1,
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_bundles_build_failures_total", Help: "Bundles that could not be built. Any is bad: OPAs stay on what they have.",
		}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_bundles_size_bytes", Help: "Size of the newest bundle, compressed.",
		}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_bundles_responses_total", Help: "Answers to requests for the bundle by outcome: sent, not_modified, failed.",
		}, []string{"outcome"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.builds, m.failures, m.size, m.responses} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of bundles: %w", err)
		}
	}
	return m, nil
}
