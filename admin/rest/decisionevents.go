package rest

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const (
	// maxDecisionFollowers bounds the connections that follow decisions: each asks the
	// database once in a decisionsInterval.
	maxDecisionFollowers = 100
	decisionsInterval    = time.Second
	decisionsBatch       = 500
	// eventDecision is the name of an event.
	eventDecision = "decision"
)

// decisionEvents choose what is followed.
type decisionEvents struct {
	LastEvent
	DecisionChoice
}

// decisionPlace is the data of the events that tell where a stream begins.
type decisionPlace struct {
	Place int64 `json:"place"`
}

func (a *API) decisionEventOperation() {
	register(a, spec{
		id: "follow-decisions", method: http.MethodGet, path: "/decisions/events", tag: tagDecisions, summary: "Follow logged decisions as they come in",
		description: "Server-sent events: `ready` first, then `decision` for each, in the order in which they came in, which is not that of their times: " +
			"a sidecar that was cut off sends later. An id is a decision's place in that order; `reset` instead of `ready` says that Last-Event-ID is no such " +
			"place, and that the stream begins now.",
		scope: policies.ScopeAudit, who: whoServices, media: []string{mediaEvents}, errors: []int{http.StatusUnprocessableEntity},
	}, a.followDecisions)
}

// decisionFollower is one connection.
type decisionFollower struct {
	eventStream

	filter store.DecisionFilter
	place  int64 // up to which it was looked
}

func (a *API) followDecisions(ctx context.Context, r *request, p *decisionEvents, _ *none) (*stream, error) {
	filter, err := p.filter()
	if err != nil {
		return nil, err
	}
	f := &decisionFollower{eventStream: eventStream{api: a, r: r}, filter: filter}
	last, err := a.store.LastPlace(ctx)
	if err != nil {
		return nil, err
	}
	begin := eventReady
	f.place = last
	if p.LastEventID != "" {
		place, err := strconv.ParseInt(p.LastEventID, 10, 64)
		if err != nil || place < 0 || place > last {
			begin = eventReset
		} else {
			f.place = place
		}
	}
	return f.stream(a.decisionFollowers, func() { f.run(ctx, begin) })
}

// run writes until the caller goes away, is too slow, or may no longer, or until the
// database does not answer: the caller comes again, and goes on where it was.
func (f *decisionFollower) run(ctx context.Context, begin string) {
	first := &bytes.Buffer{}
	writeEvent(first, begin, strconv.FormatInt(f.place, 10), decisionPlace{f.place})
	if f.write(first) != nil {
		return
	}
	look := time.NewTicker(decisionsInterval)
	defer look.Stop()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for {
		if f.authenticated(ctx) != nil || f.drain(ctx) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-heartbeat.C:
			if f.write(alive()) != nil {
				return
			}
		}
	}
}

// drain writes all that came in.
func (f *decisionFollower) drain(ctx context.Context) error {
	last, err := f.api.store.LastPlace(ctx)
	if err != nil {
		return err
	}
	for f.place < last {
		found, place, err := f.api.store.DecisionsReceived(ctx, f.filter, f.place, last, decisionsBatch)
		if err != nil {
			return err
		}
		out := &bytes.Buffer{}
		for _, d := range found {
			writeEvent(out, eventDecision, strconv.FormatInt(d.Place, 10), viewLogged(d))
		}
		f.place = place
		if out.Len() == 0 {
			continue
		}
		if err := f.write(out); err != nil {
			return err
		}
	}
	return nil
}
