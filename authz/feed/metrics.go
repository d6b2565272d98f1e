package feed

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a client's own.
type metrics struct {
	connects    prometheus.Counter
	disconnects *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	changes     prometheus.Counter
	snapshots   prometheus.Counter
	objects     prometheus.Counter
	reports     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, p *progress) (*metrics, error) {
	m := &metrics{
		connects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_feed_connects_total", Help: "Feed connections made. Rising steadily is bad: the feed does not hold.",
		}),
		disconnects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_feed_disconnects_total", Help: "Ends of feed connections and of attempts at one, by cause.",
		}, []string{"cause"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_feed_refusals_total", Help: "What the feed sent and was refused, by kind. Anything above zero is bad.",
		}, []string{"kind"}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_feed_changes_total", Help: "Changes applied, or notices taken.",
		}),
		snapshots: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_feed_snapshots_total", Help: "Snapshots put in force. One at each start is right.",
		}),
		objects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_feed_snapshot_objects_total", Help: "Objects of the snapshots put in force.",
		}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_feed_reports_total", Help: "Reports of what was applied, by outcome. Failed that grows is bad: receipts lack this sidecar.",
		}, []string{"outcome"}),
	}
	for _, kind := range RefusalKinds {
		m.refusals.WithLabelValues(string(kind)) // an alert needs the zero before the first
	}
	for _, outcome := range []string{reportGood, reportFailed} {
		m.reports.WithLabelValues(outcome)
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range append(p.gauges(), m.connects, m.disconnects, m.refusals, m.changes, m.snapshots, m.objects, m.reports) {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register the feed's metrics: %w", err))
		}
	}
	return m, errors.Join(errs...)
}

func (p *progress) gauges() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("usher_feed_revision", "The revision that the feed has brought here.", func() float64 {
			return float64(p.revision())
		}),
		gauge("usher_feed_age_seconds", "Time since the state was known to be the platform's; infinite if it never was. Over 5 is bad.", func() float64 {
			age, ok := p.age()
			if !ok {
				return math.Inf(1)
			}
			return age.Seconds()
		}),
		gauge("usher_feed_connected", "1 while a feed connection stands. 0 is bad.", func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.up {
				return 1
			}
			return 0
		}),
	}
}
