package decisions

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	kept, passedOver, refused prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		kept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_decisions_kept_total",
			Help: "Logged decisions that were uploaded and kept.",
		}),
		passedOver: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_decisions_passed_over_total",
			Help: "Logged decisions that were uploaded but not kept: they are there already, or older than the retention.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_decisions_refused_total",
			Help: "Uploads of decisions and statuses that were not taken; growing is bad: whoever sends them tries again and again, or loses them.",
		}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.kept, m.passedOver, m.refused} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
