package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// What became of an attempt to send a mail.
const (
	outcomeSent    = "sent"
	outcomeFailed  = "failed"  // is tried again
	outcomeRefused = "refused" // the address, for good: given up
	outcomeMoot    = "moot"    // nothing was to be told any more
)

type metrics struct {
	sent    *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, pool *pgxpool.Pool) (*metrics, error) {
	m := &metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_mail_attempts_total",
			Help: "Attempts to send a mail, by kind and outcome. A growing `failed` or any `refused` wants a look at `usher mail list`.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "usher_mail_attempt_duration_seconds",
			Help:                        "How long it took to write a mail and to hand it over.",
			NativeHistogramBucketFactor: 1.1,
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sent, m.seconds, &counts{pool: pool, desc: prometheus.NewDesc("usher_jobs",
		"Jobs in the queue of the whole platform, by state. `discarded` and `cancelled` were given up; a growing `retryable` is bad.",
		[]string{"state"}, nil)}} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of jobs: %w", err)
		}
	}
	return m, nil
}

const (
	// Those that are done are not counted: there are many.
	sqlCounts = `select s.state::text, (select count(*) from river_job j where j.state = s.state and j.queue = 'mail')
from unnest(array ['available', 'scheduled', 'retryable', 'running', 'discarded', 'cancelled']::river_job_state[]) as s (state)`
	countTimeout = 2 * time.Second
)

// counts asks the database when it is scraped. If that does not answer, there are none.
type counts struct {
	pool *pgxpool.Pool
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *counts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *counts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	rows, err := c.pool.Query(ctx, sqlCounts)
	if err != nil {
		return
	}
	type count struct {
		State string
		Jobs  int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[count])
	if err != nil {
		return
	}
	for _, f := range found {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(f.Jobs), f.State) //nolint:promlinter // it cannot read a field
	}
}
