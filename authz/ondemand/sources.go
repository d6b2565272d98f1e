package ondemand

import (
	"context"
	"errors"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

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
		q.engine.reject(key, n, v.err)
	case v.err != nil:
		m.count(layerRedis, n.kind, outcomeError)
	case len(v.data) == 0:
		m.count(layerRedis, n.kind, outcomeMiss)
	default:
		f, err := q.engine.codec.decode(q.root.generation.policy, key, n, v.data)
		if err != nil {
			q.engine.reject(key, n, err)
			return
		}
		q.take(layerRedis, f)
	}
}

// reject counts an entry that is none of ours, and names one a minute in the log, which
// whoever writes to Redis must not fill.
func (e *Engine) reject(key string, n name, err error) {
	e.metrics.count(layerRedis, n.kind, outcomeRejected)
	e.rejections.Do(func() {
		e.options.Logger.Error("an entry in Redis is rejected and taken for missing: somebody else writes there, or the key files of sidecars differ",
			"key", key, "error", err)
	})
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
