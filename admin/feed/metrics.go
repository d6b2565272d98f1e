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
	for _, c := range append(s.fleet(), m.refusals, m.dropped, m.snapshots, m.logReads, m.lookups, m.bytes) {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register the feed server's metrics: %w", err))
		}
	}
	return m, errors.Join(errs...)
}

// fleet tells at each scrape who is connected and how far they are.
func (s *Server) fleet() []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	gauges := []prometheus.Collector{
		gauge("usher_feed_server_revision", "The newest revision that connections are served.", nil, func() float64 {
			tip, _ := s.ring.tip()
			return float64(tip.revision)
		}),
		gauge("usher_feed_server_slowest_revision",
			"The revision that every connection was sent; 0 while one receives its first snapshot. Far behind is bad.", nil,
			func() float64 { return float64(s.slowest()) }),
	}
	for _, mode := range wire.Modes {
		gauges = append(gauges, gauge("usher_feed_server_connections", "Sidecars connected, by mode.",
			prometheus.Labels{"mode": string(mode)}, func() float64 { return float64(s.connected(mode)) }))
	}
	return gauges
}

func (s *Server) connected(mode wire.Mode) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for st := range s.streams {
		if st.q.mode == mode {
			n++
		}
	}
	return n
}

func (s *Server) slowest() uint64 {
	tip, _ := s.ring.tip()
	least := uint64(tip.revision)
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		least = min(least, st.sent.Load())
	}
	return least
}
