package authz

import (
	"sync/atomic"

	"github.com/usher-authz/usher/policies"
)

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

// clone keeps the key without what its strings were cut from, a request's body, and
// both beside each other: comparing them touches one place in memory.
func (k cacheKey) clone() cacheKey {
	both := string(k.subject) + k.id
	at := len(k.subject)
	return cacheKey{policies.AccountID(both[:at]), both[at:], k.kind}
}

func (k cacheKey) resource() policies.Resource {
	return policies.Resource{Type: policies.ResourceTypes[k.kind], ID: k.id}
}

// entry is what was found for a key at one root. Applying a change never walks the
// cache: an entry carries the revision that it was computed at, and what it rests on
// carries the revision that last touched it.
type entry struct {
	key         cacheKey
	permissions Permissions
	revision    policies.Revision // of that root
	number      uint64            // of that root
	// held is the number of the last root at which the entry was found to hold, so
	// that a root costs each entry one look at the stamps, and a hit none.
	held atomic.Uint64
	used atomic.Bool // since the cache last looked for what may go
}

// find gives the entry of k if it may be used at r and now.
func (c *cache) find(r *root, k *cacheKey, now int64) *entry {
	found := c.get(k)
	if found == nil || !found.permissions.freshAt(now) {
		return nil
	}
	if found.held.Load() == r.number {
		return found
	}
	if !found.holds(r) {
		return nil
	}
	found.held.Store(r.number)
	return found
}

// holds tells whether what e rests on is the same in r as where e was computed:
// the table in doc.go, read from the other side.
func (e *entry) holds(r *root) bool {
	s, k := r.state, &e.key
	if e.number < r.since || e.revision > s.header.Revision || !s.Known(k.subject) {
		return false
	}
	owner, ok := s.OwnerOf(k.resource())
	if !ok || owner != e.permissions.owner {
		return false
	}
	a, ok := s.accounts.get(owner)
	if !ok || a.all > e.revision {
		return false
	}
	if m, ok := a.subjects.get(k.subject); ok && m.mark.changed() > e.revision {
		return false
	}
	if k.kind != kindEnvironment {
		return true
	}
	at, ok := a.environments.get(policies.EnvironmentID(k.id))
	return ok && at.changed <= e.revision
}
