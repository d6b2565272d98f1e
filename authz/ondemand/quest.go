package ondemand

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// quest puts together the facts that some questions need, all true at one
// revision, that of its root. It is of one call, and for one goroutine.
//
//	permissions ──missing──▶ subject, owner ──▶ account ──▶ evaluate
//	     │ old                                     │ old
//	     └───────▶ stamp: was the account left alone? ◀────┘
//
// Each step looks into memory, then Redis, then asks the admin, for all questions
// together. When a fact turns out to be of a later revision than the root's, the
// quest waits for the feed to bring that, and goes on from there: facts that it has
// are judged again, and kept if nothing touched them.
type quest struct {
	engine *Engine
	root   *root
	now    time.Time
	budget *budget
	tasks  []task
	// facts are what was found; whether they are true at root is asked anew.
	facts map[name]*fact
	// old are facts older than the notices that are remembered: good if the admin
	// says that nothing touched them.
	old map[name]*fact
	// recalled are names that were looked for in memory already at this root, and
	// sought those that were in Redis.
	recalled, sought map[name]bool
	// patience is how long to wait for the feed where the admin can be asked instead.
	patience *budget
}

// task is one question.
type task struct {
	question *authz.Question
	subject  policies.AccountID
	resource policies.Resource
	// subjectMay and resourceMay are false for ids and types that usher could never
	// have: they are unknown, and nobody is asked about them.
	subjectMay, resourceMay bool
	// followed is the flight of another call that puts the permissions together.
	followed *flight
}

func newTask(q *authz.Question) task {
	t := task{
		question: q, subject: policies.AccountID(q.Subject),
		resource: policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID},
	}
	t.subjectMay = q.SubjectType == subjectType && policies.ValidID(t.subject)
	t.resourceMay = t.resource.Type.Valid() && policies.ValidID(t.resource.ID)
	return t
}

// cacheable tells whether t is answered from permissions at q's root: not if Rego is to
// look at the whole of it.
func (q *quest) cacheable(t *task) bool {
	return t.subjectMay && t.resourceMay && !t.question.Explain && !q.root.generation.policy.Guards(t.question.Action)
}

// subjectType is the one type of subject that there is (domain.md, Words).
const subjectType = "account"

func newQuest(e *Engine, r *root, questions []authz.Question, b *budget) *quest {
	q := &quest{
		engine: e, root: r, now: e.Now(), tasks: make([]task, len(questions)),
		budget: b, patience: &budget{limit: min(aheadWait, b.limit)},
	}
	for i := range questions {
		q.tasks[i] = newTask(&questions[i])
	}
	q.forget()
	return q
}

// forget drops all facts, as a new generation wants it.
func (q *quest) forget() {
	q.facts, q.old = map[name]*fact{}, map[name]*fact{}
	q.recalled, q.sought = map[name]bool{}, map[name]bool{}
}

// aheadWait is how long an entry of a later revision than the feed has brought is
// waited for, before the admin is asked.
const aheadWait = 500 * time.Millisecond

// advance goes on at the root that has revision least, or a later one.
func (q *quest) advance(ctx context.Context, least policies.Revision) error {
	return q.advanceWithin(ctx, least, q.budget)
}

func (q *quest) advanceWithin(ctx context.Context, least policies.Revision, b *budget) error {
	r, err := q.engine.await(ctx, least, b, func(least, have policies.Revision) error {
		return &authz.UnavailableError{
			Reason: fmt.Sprintf("the feed has brought revision %d only, and what answers need is of revision %d", have, least),
		}
	})
	if err != nil {
		return err
	}
	if r.generation != q.root.generation {
		q.forget()
	}
	if r != q.root {
		q.engine.metrics.rounds.Inc()
		clear(q.recalled)
	}
	q.root, q.now = r, q.engine.Now()
	return nil
}

// fact gives what is known of n and true at the root's revision, nil if nothing
// is.
func (q *quest) fact(n name) *fact {
	f := q.facts[n]
	if f == nil {
		return nil
	}
	if ok, _ := q.root.usable(f); ok && q.fresh(f) {
		return f
	}
	return nil
}

// fresh tells whether f's time has neither to come nor is over.
func (q *quest) fresh(f *fact) bool { return f.permissions == nil || f.permissions.Fresh(q.now) }

// take notes f, found in layer l, and counts what it is good for. A fact of a
// later revision stays, for when the root has it.
func (q *quest) take(l layer, f *fact) {
	ok, result := q.root.usable(f)
	if ok && !q.fresh(f) {
		ok, result = false, outcomeStale
	}
	q.engine.metrics.count(l, f.name.kind, result)
	switch {
	case ok, result == outcomeAhead:
		q.facts[f.name] = f
	case result == outcomeOld && q.fresh(f):
		if have := q.old[f.name]; have == nil || have.until() < f.until() {
			q.old[f.name] = f
		}
	}
	if l == layerRedis && (ok || result == outcomeAhead) {
		q.engine.memory.put(q.root.generation, f)
	}
}

// ahead is the revision that the facts at hand wait for, 0 if for none.
func (q *quest) ahead() policies.Revision {
	var most policies.Revision
	for _, f := range q.facts {
		if f.from > q.root.revision {
			most = max(most, f.from)
		}
	}
	return most
}

// gather finds every fact that the tasks need, but for permissions that others
// put together. On return without an error they are all true at q.root.
func (q *quest) gather(ctx context.Context) error {
	for range maxSteps {
		missing := q.missing()
		if len(missing) == 0 {
			return nil
		}
		if q.recall(missing) {
			continue // what is missing now hangs on what was found
		}
		if unsought := q.unsought(missing); len(unsought) > 0 {
			q.seek(ctx, unsought)
		} else if err := q.ask(ctx, missing); err != nil {
			return err
		}
		if err := q.catchUp(ctx); err != nil {
			return err
		}
	}
	return &authz.UnavailableError{Reason: "the data changes faster than it can be fetched"}
}

// catchUp waits until the root has the revisions of all facts at hand. What does not
// come in time is dropped, and the admin is asked in its place.
func (q *quest) catchUp(ctx context.Context) error {
	least := q.ahead()
	if least == 0 {
		return nil
	}
	err := q.advanceWithin(ctx, least, q.patience)
	if err == nil || ctx.Err() != nil {
		return err
	}
	for n, f := range q.facts {
		if f.from > q.root.revision {
			delete(q.facts, n)
		}
	}
	return nil
}

// maxSteps bounds the steps of one call. A cold question takes eight; the rest is
// for data that changes meanwhile.
const maxSteps = 64
