package ondemand

import (
	"context"
	"errors"
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

// cacheable tells whether t is answered from permissions.
func (t *task) cacheable() bool { return t.subjectMay && t.resourceMay && !t.question.Explain }

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
	r, err := q.engine.await(ctx, least, b, func(have policies.Revision) error {
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

// missing are the names to be looked for next, in order and without repetitions.
func (q *quest) missing() []name {
	var names []name
	seen := map[name]bool{}
	add := func(n name) {
		if !seen[n] && q.fact(n) == nil {
			seen[n] = true
			names = append(names, n)
		}
	}
	for i := range q.tasks {
		q.missingFor(&q.tasks[i], add)
	}
	return names
}

func (q *quest) missingFor(t *task, add func(name)) {
	if !t.subjectMay || t.followed != nil {
		return
	}
	if !t.resourceMay {
		add(subjectOf(t.subject)) // is it unknown before the resource is?
		return
	}
	wanted := permissionsOf(t.subject, t.resource)
	if t.cacheable() {
		if p := q.fact(wanted); p != nil {
			if q.needsAccount(t) {
				q.missingAccount(p.owner, add)
			}
			return
		}
		// Permissions that are at hand in one piece spare all the rest.
		if !q.looked(wanted) {
			add(wanted)
			return
		}
	}
	subject, owner := q.fact(subjectOf(t.subject)), q.fact(ownerOf(t.resource))
	if subject == nil || owner == nil {
		add(subjectOf(t.subject))
		add(ownerOf(t.resource))
		return
	}
	if !subject.exists || !owner.exists {
		return
	}
	id := ownerID(t.resource, owner)
	if t.cacheable() && q.old[wanted] != nil {
		if q.stamp(id) == nil {
			add(stampOf(id))
			return
		}
		if q.renew(wanted, id, subject, owner) {
			q.missingFor(t, add)
			return
		}
	}
	q.missingAccount(id, add)
}

// needsAccount tells whether to know t's action takes the owner's custom policies.
func (q *quest) needsAccount(t *task) bool {
	return !q.root.generation.policy.KnowsAction(policies.ActionName(t.question.Action))
}

// missingAccount adds what shows owner's account.
func (q *quest) missingAccount(owner policies.AccountID, add func(name)) {
	n := accountOf(owner)
	if q.fact(n) != nil {
		return
	}
	if q.old[n] != nil && q.stamp(owner) != nil && q.renew(n, owner) {
		return
	}
	add(n)
}

// ownerID is who owns r, as f says, which may be about the account itself.
func ownerID(r policies.Resource, f *fact) policies.AccountID {
	if r.Type.IsCategory() {
		return policies.AccountID(r.ID)
	}
	return f.owner
}

// stamp is the fact since when owner's account has been as it is at the root.
func (q *quest) stamp(owner policies.AccountID) *fact {
	if f := q.fact(stampOf(owner)); f != nil {
		return f
	}
	return q.fact(accountOf(owner))
}

// renew dates the old fact n anew, if the account that it rests on was left alone
// since, and drops it otherwise. Others are the facts that it also rests on; what
// was in between is not known of them, so the renewed fact begins where they do.
func (q *quest) renew(n name, owner policies.AccountID, others ...*fact) bool {
	have, stamp := q.old[n], q.stamp(owner)
	delete(q.old, n)
	if have.until() < stamp.from || (n.kind == kindPermissions && have.owner != owner) || have.exists != stamp.exists {
		q.engine.metrics.count(layerAdmin, n.kind, outcomeStale)
		return false
	}
	from := stamp.from
	for _, f := range others {
		from = max(from, f.from)
	}
	made := newFact(n, from, q.root.revision)
	made.exists, made.owner, made.permissions, made.account, made.bytes = have.exists, have.owner, have.permissions, have.account, have.bytes
	q.facts[n] = made
	q.engine.learned(q.root.generation, made)
	return true
}

// recall looks into memory, once for each name and root, and tells whether it found
// anything.
func (q *quest) recall(names []name) bool {
	found := false
	for _, n := range names {
		if q.recalled[n] {
			continue
		}
		q.recalled[n] = true
		f := q.engine.memory.get(q.root.generation, n)
		if f == nil {
			q.engine.metrics.count(layerMemory, n.kind, outcomeMiss)
			continue
		}
		q.take(layerMemory, f)
		found = found || q.fact(n) != nil || q.old[n] == f
	}
	return found
}

// looked tells whether n was looked for in memory and Redis.
func (q *quest) looked(n name) bool { return q.sought[n] || q.old[n] != nil }

// unsought are the names that Redis was not asked for yet. Stamps are not there.
func (q *quest) unsought(names []name) []name {
	var list []name
	for _, n := range names {
		if !q.sought[n] && n.kind != kindStamp {
			list = append(list, n)
		}
	}
	return list
}

// seek looks for names in Redis. What is not there is for the admin to say; so is
// all if Redis does not answer.
func (q *quest) seek(ctx context.Context, names []name) {
	for _, n := range names {
		q.sought[n] = true
	}
	e := q.engine
	if e.shared == nil {
		return
	}
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = key(q.root.generation.prefix, n)
	}
	e.shared.read(ctx, keys, names, func(i int, v value) { q.open(keys[i], names[i], v) })
}

// open takes the fact named n from what Redis has under key.
func (q *quest) open(key string, n name, v value) {
	m := q.engine.metrics
	switch {
	case errors.Is(v.err, errWrongType):
		m.count(layerRedis, n.kind, outcomeRejected)
	case v.err != nil:
		m.count(layerRedis, n.kind, outcomeError)
	case len(v.data) == 0:
		m.count(layerRedis, n.kind, outcomeMiss)
	default:
		f, err := q.engine.codec.decode(q.root.generation.policy, key, n, v.data)
		if err != nil {
			m.count(layerRedis, n.kind, outcomeRejected)
			return
		}
		q.take(layerRedis, f)
	}
}

// ask asks the admin for names, and takes what it says.
func (q *quest) ask(ctx context.Context, names []name) error {
	var wants []want
	seen := map[name]bool{}
	for _, n := range names {
		switch n.kind {
		case kindPermissions:
			continue // computed, not asked for
		case kindStamp, kindAccount:
			n = accountOf(policies.AccountID(n.id))
		case kindOwner, kindSubject:
		}
		if !seen[n] {
			seen[n] = true
			wants = append(wants, want{name: n, since: q.since(n)})
		}
	}
	if len(wants) == 0 {
		return nil
	}
	facts, revision, err := q.engine.lookups.fetch(ctx, q.root.revision, wants)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &authz.UnavailableError{Reason: "what the answer needs is not in memory or Redis, and the admin server does not give it", Cause: err}
	}
	for _, f := range facts {
		q.facts[f.name] = f
	}
	if revision > q.root.revision {
		return q.advance(ctx, revision)
	}
	return nil
}

// since is a revision at which we have something that hangs on account n, so that
// the word that it was left alone makes it good again. If the account itself is at
// hand that is what counts, else the oldest of the permissions.
func (q *quest) since(n name) policies.Revision {
	if n.kind != kindAccount {
		return 0
	}
	if f := q.old[n]; f != nil {
		return f.until()
	}
	var least policies.Revision
	for other, f := range q.old {
		if other.kind == kindPermissions && string(f.owner) == n.id && (least == 0 || f.until() < least) {
			least = f.until()
		}
	}
	return least
}
