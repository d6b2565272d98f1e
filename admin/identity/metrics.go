package identity

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ tokens, fetches *prometheus.CounterVec }

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_identity_tokens_total",
			Help: "JWTs of accounts, by outcome; unverified ones are bad: the provider does not answer.",
		}, []string{"outcome"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_identity_key_fetches_total",
			Help: "How often the OpenID provider was asked for its keys, by outcome; failed is bad.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"accepted", "refused", "unverified"} {
		m.tokens.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"ok", "failed"} {
		m.fetches.WithLabelValues(outcome)
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m.tokens), registerer.Register(m.fetches))
}
