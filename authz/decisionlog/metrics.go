package decisionlog

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	logged, sent, sampledOut, byRule                                 prometheus.Counter
	bufferFull, queueFull, rulesFailed, writeFailed, refused, unsent prometheus.Counter
}

func newMetrics(r prometheus.Registerer, of *ring) (*metrics, error) {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_decision_log_dropped_total",
		Help: "Decisions that are not in the log though they should be, by reason; any is bad.",
	}, []string{"reason"})
	left := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_decision_log_left_out_total",
		Help: "Decisions that are not in the log on purpose, by reason.",
	}, []string{"reason"})
	m := &metrics{
		logged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_decision_log_events_total", Help: "Decisions that were logged.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_decision_log_sent_total", Help: "Logged decisions that the collector took.",
		}),
		sampledOut: left.WithLabelValues("sample"), byRule: left.WithLabelValues("rule"),
		bufferFull: dropped.WithLabelValues("buffer_full"), queueFull: dropped.WithLabelValues("queue_full"),
		rulesFailed: dropped.WithLabelValues("rules_failed"), writeFailed: dropped.WithLabelValues("write_failed"),
		refused: dropped.WithLabelValues("refused"), unsent: dropped.WithLabelValues("unsent"),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{dropped, left, m.logged, m.sent, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_decision_log_waiting", Help: "Decisions that wait to be logged; near the buffer's size is bad.",
	}, func() float64 {
		of.mu.Lock()
		defer of.mu.Unlock()
		return float64(of.count)
	})} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
