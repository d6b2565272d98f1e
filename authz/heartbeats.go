package authz

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSkew is how far the wall clock may be from a heartbeat before it is logged.
const maxSkew = 2 * time.Second

// Heartbeats are the now by which grants end: the greater of the wall clock and the
// last heartbeat. They tell when the two differ.
type Heartbeats struct {
	clock  func() time.Time
	logger *slog.Logger
	last   atomic.Int64 // nanoseconds of Unix time; 0: none yet
	skew   prometheus.Gauge
	skewed atomic.Bool // it was logged
}

// NewHeartbeats registers their metrics with r, which may be nil.
func NewHeartbeats(clock func() time.Time, logger *slog.Logger, r prometheus.Registerer) (*Heartbeats, error) {
	h := &Heartbeats{clock: clock, logger: logger, skew: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "usher_engine_clock_skew_seconds",
		Help: "The clock less the time of the last heartbeat. Beyond 2 either way: a clock is wrong.",
	})}
	if r == nil {
		return h, nil
	}
	for _, c := range []prometheus.Collector{h.skew, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_engine_heartbeat_age_seconds",
		Help: "Time since the last heartbeat; grows while the feed is cut off. 0 before the first.",
	}, h.age)} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of heartbeats: %w", err)
		}
	}
	return h, nil
}

func (h *Heartbeats) age() float64 {
	last := h.last.Load()
	if last == 0 {
		return 0
	}
	return h.clock().Sub(time.Unix(0, last)).Seconds()
}

// Observe takes the time of a heartbeat that came just now, which whoever calls has
// verified.
func (h *Heartbeats) Observe(t time.Time) {
	h.Recall(t)
	skew := h.clock().Sub(t)
	h.skew.Set(skew.Seconds())
	if off := skew.Abs() > maxSkew; off != h.skewed.Swap(off) && off {
		h.logger.Warn("the clock is not the admin server's", slog.Duration("skew", skew))
	}
}

// Recall takes the time of a heartbeat that came some time ago: now is never before it,
// and of the clock it tells nothing.
func (h *Heartbeats) Recall(t time.Time) {
	at := t.UnixNano()
	for have := h.last.Load(); at > have && !h.last.CompareAndSwap(have, at); {
		have = h.last.Load()
	}
}

// Now is the greater of the clock and the last heartbeat.
func (h *Heartbeats) Now() time.Time { return time.Unix(0, h.now()) }

func (h *Heartbeats) now() int64 { return max(h.clock().UnixNano(), h.last.Load()) }
