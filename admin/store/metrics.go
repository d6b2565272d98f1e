package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/policies"
)

// metrics are the store's; they count whether or not anyone registered them.
type metrics struct {
	writes   *prometheus.HistogramVec
	lockWait prometheus.Histogram
	retries  prometheus.Counter
	unknown  *prometheus.CounterVec
	epochs   prometheus.Counter
	// invitations are counted once what became of them is committed.
	invitations *prometheus.CounterVec
	untold      prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "usher_store_write_duration_seconds",
			Help:                        "How long writes took, the wait for their turn included, by outcome. Above a second writers queue.",
			NativeHistogramBucketFactor: nativeBucketFactor,
		}, []string{"outcome"}),
		lockWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "usher_store_lock_wait_duration_seconds",
			Help:                        "How long writes waited for the lock that orders them, connection and first reads included.",
			NativeHistogramBucketFactor: nativeBucketFactor,
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_store_write_retries_total",
			Help: "Transactions that were run again after a deadlock or a serialization failure. Should stay near zero.",
		}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_store_unknown_commits_total",
			Help: "Commits whose outcome had to be looked up, by what was found. Any `unknown` was answered as such.",
		}, []string{"found"}),
		epochs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_store_epochs_total",
			Help: "Epochs that this process began. More than one in a week wants an explanation.",
		}),
		invitations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_invitations_total",
			Help: "Invitations, by what became of them: made, resent, accepted, rejected, expired; refused_owner and refused_address were beyond " +
				"the limit of one, and grow where somebody sends too many.",
		}, []string{"event"}),
		untold: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_news_failures_total",
			Help: "Times that the members of an account could not be told what its changes mean to them. It is tried again; where this grows, the log " +
				"names the account.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.writes, m.lockWait, m.retries, m.unknown, m.epochs, m.invitations, m.untold} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the store's metrics: %w", err)
		}
	}
	return m, nil
}

// countInvitations counts what a committed write did to invitations.
func (m *metrics) countInvitations(d *draft, now time.Time) {
	for _, t := range d.touches {
		after, ok := t.after.(memberObject)
		if !ok {
			continue
		}
		before, _ := t.before.(memberObject)
		event := ""
		switch noticeOf(before.memberRow, after.memberRow, now) {
		case NoticeInvited:
			event = "made"
		case NoticeResent:
			event = "resent"
		case NoticeAccepted:
			event = "accepted"
		case NoticeRejected:
			event = "rejected"
		default:
			if before.Status == policies.StatusPending && after.Status == policies.StatusExpired {
				event = "expired"
			}
		}
		if event != "" {
			m.invitations.WithLabelValues(event).Inc()
		}
	}
}

// countRefused counts an invitation that was beyond a limit.
func (m *metrics) countRefused(err error) {
	var limit *LimitError
	switch {
	case !errors.As(err, &limit):
	case limit.Address:
		m.invitations.WithLabelValues("refused_address").Inc()
	default:
		m.invitations.WithLabelValues("refused_owner").Inc()
	}
}

// nativeBucketFactor makes a bucket at most 10% wider than the one before.
const nativeBucketFactor = 1.1
