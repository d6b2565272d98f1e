package authz

import "github.com/usher-authz/usher/policies"

// cacheKey is (subject, resource); the subject is an account, the type of the
// resource its place in policies.ResourceTypes, since a number is compared faster
// than a name.
type cacheKey struct {
	subject policies.AccountID
	id      string
	kind    uint8
}

// keyOf is false for what is unknown by its type already.
func keyOf(q *Question) (cacheKey, bool) {
	kind := kindOf(policies.ResourceType(q.ResourceType))
	ok := q.SubjectType == subjectAccount && kind != kindUnknown
	return cacheKey{policies.AccountID(q.Subject), q.ResourceID, kind}, ok
}

const (
	kindEnvironment uint8 = iota
	kindGroup
	kindEnvironments
	kindGroups
	kindAccount
	kindUnknown
)

func kindOf(t policies.ResourceType) uint8 {
	switch t {
	case policies.TypeEnvironment:
		return kindEnvironment
	case policies.TypeGroup:
		return kindGroup
	case policies.TypeEnvironments:
		return kindEnvironments
	case policies.TypeGroups:
		return kindGroups
	case policies.TypeAccount:
		return kindAccount
	default:
		return kindUnknown
	}
}

func (k cacheKey) resource() policies.Resource {
	return policies.Resource{Type: policies.ResourceTypes[k.kind], ID: k.id}
}

// entry is what was found for a key at one root, of this number and revision.
type entry struct {
	permissions Permissions
	revision    policies.Revision
	held        uint64
}

// find gives what was found for k if it may be used at r and now. Applying a change
// never walks the cache: what was found carries the revision that it was computed at,
// and what it rests on carries the revision that last touched it.
func (c *cache) find(r *root, k *cacheKey, now int64) (found Permissions, ok bool) {
	p := c.inForce.Load()
	at, head := p.find(c.hash(k), k)
	if head == 0 {
		return found, false
	}
	slot := &p.slots[at]
	kind := &p.kinds[slot.kind]
	found = Permissions{common: kind.common, owner: p.name(slot.owner), ends: kind.ends, since: now}
	if !found.freshAt(now) || now < c.latest.Load() && now < p.rests[at].since {
		return found, false
	}
	if held := head >> 1; held != r.number {
		owner := found.owner.string()
		if !r.untouchedSince(held, k.subject, owner) && (held < r.since || !r.state.holds(k, owner, p.rests[at].revision)) {
			return found, false
		}
	}
	// A root costs each pair one look at the stamps, and a hit none; nothing is written
	// when nothing changes.
	if used := r.number<<1 | 1; head != used {
		slot.head.CompareAndSwap(head, used)
	}
	return found, true
}

// untouchedSince tells whether no change since a root was about subject or owner, on
// which all rests that an entry of theirs rests on: most changes are about others, and
// to look at all stamps takes as long as the check.
func (r *root) untouchedSince(number uint64, subject, owner policies.AccountID) bool {
	if number < r.since || number > r.number || r.number-number > uint64(len(r.lately)) {
		return false
	}
	for i := range r.number - number {
		if t := &r.lately[i]; t.has(owner) || t.has(subject) {
			return false
		}
	}
	return true
}

// holds tells whether what was found for k at a revision rests on what is the same in s:
// the table in doc.go, read from the other side.
func (s *State) holds(k *cacheKey, found policies.AccountID, at policies.Revision) bool {
	if at > s.header.Revision || !s.Known(k.subject) {
		return false
	}
	owner, ok := s.OwnerOf(k.resource())
	if !ok || owner != found {
		return false
	}
	a, ok := s.accounts.get(owner)
	if !ok || a.all > at {
		return false
	}
	if m, ok := a.subjects.get(k.subject); ok && m.mark.changed() > at {
		return false
	}
	if k.kind != kindEnvironment {
		return true
	}
	environment, ok := a.environments.get(policies.EnvironmentID(k.id))
	return ok && environment.changed <= at
}
