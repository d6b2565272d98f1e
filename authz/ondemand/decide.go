package ondemand

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// maxRounds bounds how often one call begins anew because what it waited for was
// put together for another revision, or given up by who led.
const maxRounds = 16

// Check implements [authz.Decider]. What is in memory is answered without
// allocation.
func (e *Engine) Check(ctx context.Context, least policies.Revision, q authz.Question) (authz.Decision, error) {
	if r := e.root.Load(); r != nil && r.revision >= least && !q.Explain {
		if d, ok := e.remember(r, &q); ok {
			return d, nil
		}
	}
	decisions, err := e.Decide(ctx, least, []authz.Question{q})
	if err != nil {
		return authz.Decision{}, err
	}
	return decisions[0], nil
}

// remember answers q from memory alone, if permissions that are true at r stand
// there and the catalogue knows the action.
func (e *Engine) remember(r *root, q *authz.Question) (authz.Decision, bool) {
	if q.SubjectType != subjectType || !r.generation.policy.KnowsAction(policies.ActionName(q.Action)) {
		return authz.Decision{}, false
	}
	n := permissionsOf(policies.AccountID(q.Subject), policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID})
	f := e.memory.get(r.generation, n)
	if f == nil {
		return authz.Decision{}, false
	}
	if ok, _ := r.usable(f); !ok || !f.permissions.Fresh(e.Now()) {
		return authz.Decision{}, false
	}
	d := f.permissions.Decide(catalogueView{r}, q)
	if d.Allow && r.generation.policy.Guards(q.Action) {
		return authz.Decision{}, false // it takes the account, and all of the request
	}
	e.metrics.count(layerMemory, kindPermissions, outcomeHit)
	return d, true
}

// Decide implements [authz.Decider]. When neither memory nor Redis nor the admin
// has what an answer needs, the error is an [*authz.UnavailableError].
func (e *Engine) Decide(ctx context.Context, least policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	b := &budget{limit: e.options.MinRevisionWait}
	defer b.stop()
	r, err := e.await(ctx, least, b, e.late)
	if err != nil {
		return nil, err
	}
	q := newQuest(e, r, questions, b)
	defer q.patience.stop()
	for range maxRounds {
		done, err := q.round(ctx)
		if err != nil {
			return nil, err
		}
		if done {
			return q.answer(ctx)
		}
	}
	return nil, &authz.UnavailableError{Reason: "the data changes faster than it can be fetched"}
}

// round leads the permissions that nobody else is putting together, then waits for
// those that others are, and tells whether all is there at one revision.
func (q *quest) round(ctx context.Context) (done bool, err error) {
	led, following := q.depart()
	if err := q.lead(ctx, led); err != nil {
		return false, err
	}
	if !following {
		return true, nil
	}
	return false, q.follow(ctx)
}

// lead puts together what nobody else does, and tells those who follow.
func (q *quest) lead(ctx context.Context, led []memoryKey) (err error) {
	err = errLeaderGone // what followers hear if this panics
	defer func() { q.land(ctx, led, err) }()
	if err = q.gather(ctx); err != nil {
		return err
	}
	return q.compute(ctx)
}

// errLeaderGone tells followers that who led gave up for reasons of its own.
var errLeaderGone = errors.New("the call that put the permissions together was given up")

// depart joins a flight for all permissions that are not at hand.
func (q *quest) depart() (led []memoryKey, following bool) {
	mine := map[memoryKey]bool{}
	for i := range q.tasks {
		t := &q.tasks[i]
		t.followed = nil
		if !q.cacheable(t) {
			continue
		}
		k := memoryKey{generation: q.root.generation.id, name: permissionsOf(t.subject, t.resource)}
		if mine[k] {
			continue
		}
		if q.fact(k.name) == nil {
			if f := q.engine.memory.get(q.root.generation, k.name); f != nil {
				q.take(layerMemory, f)
			}
		}
		if q.fact(k.name) != nil {
			continue
		}
		flight, leads := q.engine.flights.join(k)
		if leads {
			mine[k] = true
			led = append(led, k)
			continue
		}
		t.followed, following = flight, true
	}
	return led, following
}

// land tells those who follow. Another generation's facts are not for them.
func (q *quest) land(ctx context.Context, led []memoryKey, err error) {
	if err != nil && ctx.Err() != nil {
		err = errLeaderGone
	}
	for _, k := range led {
		var found *fact
		if err == nil && k.generation == q.root.generation.id {
			found = q.facts[k.name]
		}
		q.engine.flights.land(k, found, err)
	}
}

// follow waits for the flights of others. What they found is judged at our root in
// the next round, and when one who led gave up, we lead.
func (q *quest) follow(ctx context.Context) error {
	for i := range q.tasks {
		t := &q.tasks[i]
		if t.followed == nil {
			continue
		}
		select {
		case <-t.followed.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.followed.err; err != nil && !errors.Is(err, errLeaderGone) {
			return err
		}
		if f := t.followed.fact; f != nil {
			q.facts[f.name] = f
		}
	}
	if least := q.ahead(); least > 0 {
		return q.advance(ctx, least)
	}
	return nil
}

// compute evaluates the permissions that are not at hand, from the facts at hand.
func (q *quest) compute(ctx context.Context) error {
	for i := range q.tasks {
		t := &q.tasks[i]
		if !q.cacheable(t) || t.followed != nil {
			continue
		}
		n := permissionsOf(t.subject, t.resource)
		if q.fact(n) != nil {
			continue
		}
		v := q.view(t)
		if v.account == nil {
			continue // unknown: answered one by one, and kept by nobody
		}
		begun := time.Now()
		effective, err := v.root.generation.policy.Effective(ctx, v, q.now, t.subject, t.resource)
		if err == nil {
			err = v.err
		}
		if err != nil {
			return fmt.Errorf("permissions of %q on %s: %w", t.subject, t.resource, err)
		}
		permissions, err := v.root.generation.policy.Compact(effective, q.now)
		if err != nil {
			return fmt.Errorf("permissions of %q on %s: %w", t.subject, t.resource, err)
		}
		q.engine.metrics.since(layerEvaluation, begun)
		q.engine.metrics.count(layerEvaluation, kindPermissions, outcomeHit)
		made := newFact(n, v.from, q.root.revision)
		made.exists = true
		made.setPermissions(permissions)
		q.facts[n] = made
		q.engine.learned(q.root.generation, made)
	}
	return nil
}

// answer composes the decisions, all at q.root.
func (q *quest) answer(ctx context.Context) ([]authz.Decision, error) {
	decisions := make([]authz.Decision, len(q.tasks))
	for i := range q.tasks {
		t := &q.tasks[i]
		v := q.view(t)
		if q.cacheable(t) {
			if f := q.fact(permissionsOf(t.subject, t.resource)); f != nil {
				decisions[i] = f.permissions.Decide(v, t.question)
				if v.err != nil {
					return nil, v.err
				}
				continue
			}
		}
		d, err := q.engine.guard.Decide(ctx, v, q.now, *t.question)
		if err == nil {
			err = v.err
		}
		if err != nil {
			return nil, fmt.Errorf("decide for %q on %s: %w", t.subject, t.resource, err)
		}
		decisions[i] = d
	}
	return decisions, nil
}
