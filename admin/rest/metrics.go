package rest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// measure tells how many connections are open whose answers have no end.
func (a *API) measure(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for of, places := range map[string]chan struct{}{"changes": a.followers, "decisions": a.decisionFollowers} {
		if err := registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "usher_followers", Help: "Connections that follow events. Where there are too many, others are refused with 429.",
			ConstLabels: prometheus.Labels{"of": of},
		}, func() float64 { return float64(len(places)) })); err != nil {
			return fmt.Errorf("register the metrics of the REST API: %w", err)
		}
	}
	return nil
}
