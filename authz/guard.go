package authz

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/policies"
)

// Guard lets guardrails have their say, and counts what they say.
type Guard struct{ denied, observed, failed prometheus.Counter }

// NewGuard registers its metric with r, which may be nil.
func NewGuard(r prometheus.Registerer) (*Guard, error) {
	said := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_guardrails_total",
		Help: "What guardrails said of checks that were allowed but for them: denied, observed (a rule that only observes would have), " +
			"failed (an evaluation gave an error, and the check no answer: should be 0).",
	}, []string{"outcome"})
	if r != nil {
		if err := r.Register(said); err != nil {
			return nil, err
		}
	}
	return &Guard{
		denied: said.WithLabelValues("denied"), observed: said.WithLabelValues("observed"), failed: said.WithLabelValues("failed"),
	}, nil
}

// Decide is [Policy.Decision], counted: for a check that its permissions allow and
// [Policy.Guards], and for one that asks for an explanation.
func (g *Guard) Decide(ctx context.Context, view View, now time.Time, q Question) (Decision, error) {
	d, err := view.Policy().Decision(ctx, view, now, q)
	switch {
	case err != nil && view.Policy().Guards(q.Action):
		g.fails(ctx)
	case d.Reason == policies.ReasonGuardrail:
		g.denied.Inc()
	}
	if len(d.Observed) > 0 {
		g.observed.Inc()
	}
	return d, err
}

// fails counts an error of an evaluation, but for that of a caller who went away.
func (g *Guard) fails(ctx context.Context) {
	if ctx.Err() == nil {
		g.failed.Inc()
	}
}
