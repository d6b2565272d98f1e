package fleet

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/store"
)

// collector looks at the fleet when it is scraped. While PostgreSQL is away it has
// nothing to tell; usher_admin_tail_age_seconds tells of that.
type collector struct {
	store                     *store.Store
	connected, behind, oldest *prometheus.Desc
}

func newCollector(s *store.Store) collector {
	return collector{
		store:     s,
		connected: prometheus.NewDesc("usher_fleet_sidecars", "Sidecars that reported lately, to any replica.", nil, nil),
		behind:    prometheus.NewDesc("usher_fleet_behind", "Of those, the ones without the present revision. Above 0 for long is bad.", nil, nil),
		oldest:    prometheus.NewDesc("usher_fleet_oldest_age_seconds", "Of those, the age of the oldest data. Over 5 is bad.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connected, c.behind, c.oldest} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	f, err := c.store.Fleet(ctx)
	if err != nil {
		return
	}
	to <- prometheus.MustNewConstMetric(c.connected, prometheus.GaugeValue, float64(f.Connected)) //nolint:promlinter // it cannot read a field
	to <- prometheus.MustNewConstMetric(c.behind, prometheus.GaugeValue, float64(f.Behind))       //nolint:promlinter // as above
	to <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, f.Age)                   //nolint:promlinter // as above
}
