package server

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// endpoint names an endpoint in metrics and logs.
type endpoint string

const (
	endpointEvaluation  endpoint = "evaluation"
	endpointEvaluations endpoint = "evaluations"
	endpointSubjects    endpoint = "search_subject"
	endpointResources   endpoint = "search_resource"
	endpointActions     endpoint = "search_action"
	endpointData        endpoint = "data"
	endpointForward     endpoint = "forward_auth"
)

var endpoints = []endpoint{endpointEvaluation, endpointEvaluations, endpointSubjects, endpointResources, endpointActions, endpointData, endpointForward}

// reasons are all that an answer may have.
var reasons = []policies.Reason{
	policies.ReasonOwner, policies.ReasonGranted, policies.ReasonUnknownSubject, policies.ReasonUnknownResource,
	policies.ReasonUnknownAction, policies.ReasonNoCollaboration, policies.ReasonCollaborationPending,
	policies.ReasonCollaborationSuspended, policies.ReasonCollaborationLeft, policies.ReasonCollaborationRejected,
	policies.ReasonCollaborationExpired, policies.ReasonCollaborationRemoved, policies.ReasonNotShared,
	policies.ReasonActionNotGranted, policies.ReasonGuardrail, policies.ReasonInvalidRequest, policies.ReasonRevisionNotReached,
}

// metrics count what was answered. Counters of decisions are found once, so that a
// check pays for one addition.
type metrics struct {
	decisions map[policies.Reason]prometheus.Counter
	other     prometheus.Counter
	refused   *prometheus.CounterVec
	seconds   map[endpoint]prometheus.Observer
	items     prometheus.Observer
	found     prometheus.Observer
	inFlight  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_server_decisions_total",
		Help: "Decisions answered over HTTP, by outcome and reason; each item of a batch is one.",
	}, []string{"outcome", "reason"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_server_refused_total",
		Help: "Requests of the check API that were answered with an error, by endpoint and status; 500 is always bad.",
	}, []string{"endpoint", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "usher_server_duration_seconds",
		Help:                            "From a request's header to its answer, by endpoint.",
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
		Buckets:                         []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 2.5},
	}, []string{"endpoint"})
	items := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "usher_server_batch_items",
		Help:    "Evaluations in one batch.",
		Buckets: prometheus.ExponentialBuckets(1, 4, 6),
	})
	found := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "usher_server_search_results",
		Help:    "Results on one page of a search.",
		Buckets: prometheus.ExponentialBuckets(1, 10, 5), //nolint:mnd // 1 to 10,000, the most there can be
	})
	inFlight := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "usher_server_in_flight",
		Help: "Requests of the check API that are being answered; many for long is bad: they wait for a revision, or for Redis.",
	})
	if r != nil {
		var errs []error
		for _, c := range []prometheus.Collector{decisions, refused, seconds, items, found, inFlight} {
			errs = append(errs, r.Register(c))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	m := &metrics{
		decisions: map[policies.Reason]prometheus.Counter{},
		other:     decisions.WithLabelValues("deny", "other"),
		refused:   refused,
		seconds:   map[endpoint]prometheus.Observer{},
		items:     items,
		found:     found,
		inFlight:  inFlight,
	}
	for _, reason := range reasons {
		outcome := "deny"
		if reason == policies.ReasonOwner || reason == policies.ReasonGranted {
			outcome = "allow"
		}
		m.decisions[reason] = decisions.WithLabelValues(outcome, string(reason))
	}
	for _, e := range endpoints {
		m.seconds[e] = seconds.WithLabelValues(string(e))
	}
	return m, nil
}

// sum is how many decisions were counted.
func (m *metrics) sum() float64 {
	sum := 0.0
	for _, c := range append(slices.Collect(maps.Values(m.decisions)), m.other) {
		var read dto.Metric
		if err := c.Write(&read); err == nil { // a counter is always written
			sum += read.GetCounter().GetValue()
		}
	}
	return sum
}

func (m *metrics) decided(d *authz.Decision) {
	counter, ok := m.decisions[d.Reason]
	if !ok {
		counter = m.other
	}
	counter.Inc()
}

func (m *metrics) refuse(e endpoint, status int) {
	if http.StatusText(status) != "" {
		m.refused.WithLabelValues(string(e), strconv.Itoa(status)).Inc()
	}
}
