package feed

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	wire "github.com/usher-authz/usher/authz/feed"
)

// metrics are a server's own.
type metrics struct {
	refusals  *prometheus.CounterVec
	dropped   prometheus.Counter
	snapshots prometheus.Counter
	logReads  prometheus.Counter
	lookups   prometheus.Counter
	bytes     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_feed_server_refused_total", Help: "Feed requests and look-ups answered with an error, by status.",
		}, []string{"status"}),
		dropped:   counter("usher_feed_server_dropped_total", "Connections dropped because their reader did not read. Rising is bad."),
		snapshots: counter("usher_feed_server_snapshots_total", "Snapshots served. Many without new sidecars are bad: they fall behind."),
		logReads:  counter("usher_feed_server_log_reads_total", "Reads of the change log for connections that were behind the ring."),
		lookups:   counter("usher_feed_server_lookups_total", "Look-ups answered."),
		bytes:     counter("usher_feed_server_bytes_total", "Bytes written to sidecars, compressed."),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.refusals, m.dropped, m.snapshots, m.logReads, m.lookups, m.bytes, fleet{s}} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register the feed server's metrics: %w", err))
		}
	}
	return m, errors.Join(errs...)
}

// fleet tells at each scrape who is connected and how far they are.
type fleet struct{ s *Server }

var _ prometheus.Collector = fleet{}

// Describe implements prometheus.Collector.
func (f fleet) Describe(ch chan<- *prometheus.Desc) {
	connections, revision, slowest := f.descs()
	ch <- connections
	ch <- revision
	ch <- slowest
}

// Collect implements prometheus.Collector.
func (f fleet) Collect(ch chan<- prometheus.Metric) {
	connections, revision, slowest := f.descs()
	tip, _ := f.s.ring.tip()
	counts := map[wire.Mode]int{}
	least := uint64(tip.revision)
	f.s.mu.Lock()
	for st := range f.s.streams {
		counts[st.q.mode]++
		least = min(least, st.sent.Load())
	}
	f.s.mu.Unlock()
	for _, mode := range wire.Modes {
		ch <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(counts[mode]), string(mode))
	}
	ch <- prometheus.MustNewConstMetric(revision, prometheus.GaugeValue, float64(tip.revision))
	ch <- prometheus.MustNewConstMetric(slowest, prometheus.GaugeValue, float64(least))
}

func (fleet) descs() (connections, revision, slowest *prometheus.Desc) {
	return prometheus.NewDesc("usher_feed_server_connections", "Sidecars connected, by mode.", []string{"mode"}, nil),
		prometheus.NewDesc("usher_feed_server_revision", "The newest revision that connections are served.", nil, nil),
		prometheus.NewDesc("usher_feed_server_slowest_revision",
			"The revision that every connection was sent; 0 while one receives its first snapshot. Far behind is bad.", nil, nil)
}
