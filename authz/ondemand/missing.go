package ondemand

import (
	"github.com/usher-authz/usher/policies"
)

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
	if q.cacheable(t) {
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
	if q.cacheable(t) && q.old[wanted] != nil {
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
