package authz

import (
	"sync/atomic"
	"unsafe"

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

func (k cacheKey) resource() policies.Resource {
	return policies.Resource{Type: policies.ResourceTypes[k.kind], ID: k.id}
}

// entry is what was found for a key at one root. Applying a change never walks the
// cache: an entry carries the revision that it was computed at, and what it rests on
// carries the revision that last touched it.
//
// It is two cache lines, and nothing else of it is touched on a hit: among hundreds of
// thousands of entries a hit waits for memory, and for little else. The second line is
// the texts, in the entry itself, so that both lines are waited for at once and not one
// after the other.
type entry struct {
	permissions Permissions
	revision    policies.Revision // of the root at which it was computed
	// held is the number of that root, and then of the last one at which the entry was
	// found to hold, so that a root costs each entry one look at the stamps, and a hit
	// none.
	held atomic.Uint64
	// The key: subject and id, of these lengths, one behind the other in short, or in
	// long if they are longer than that; and kind.
	long        text[string]
	subject, id uint8 // enough: see policies.MaxIDLength
	kind        uint8
	used        atomic.Bool // since the cache last looked for what may go
	short       [64]byte    // behind the key the owner's text, if there is room
}

// setKey keeps no part of k's strings, which were cut from a request's body.
func (e *entry) setKey(k *cacheKey) {
	e.subject, e.id, e.kind = uint8(len(k.subject)), uint8(len(k.id)), k.kind
	length := len(k.subject) + len(k.id)
	if length > len(e.short) {
		e.long = newText(nil, string(k.subject)+k.id)
		return
	}
	copy(e.short[:], k.subject)
	copy(e.short[len(k.subject):], k.id)
	if owner := e.permissions.owner.string(); length+1+len(owner) <= len(e.short) {
		e.permissions.owner = newText(&room{free: e.short[length:]}, owner)
	}
}

// ids are subject and id of the key. They do not change once the entry is published.
func (e *entry) ids() string {
	if e.long.at != nil {
		return e.long.string()
	}
	return unsafe.String(&e.short[0], int(e.subject)+int(e.id)) //nolint:gosec // setKey has put as many there
}

func (e *entry) key() cacheKey {
	ids := e.ids()
	return cacheKey{policies.AccountID(ids[:e.subject]), ids[e.subject:], e.kind}
}

func (e *entry) is(k *cacheKey) bool {
	if e.kind != k.kind || int(e.subject) != len(k.subject) || int(e.id) != len(k.id) {
		return false
	}
	ids := e.ids()
	return ids[:e.subject] == string(k.subject) && ids[e.subject:] == k.id
}

// find gives the entry of k if it may be used at r and now.
func (c *cache) find(r *root, k *cacheKey, now int64) *entry {
	found := c.get(k)
	if found == nil || !found.permissions.freshAt(now) {
		return nil
	}
	held := found.held.Load()
	if held == r.number {
		return found
	}
	if !r.untouchedSince(held, k.subject, found.permissions.owner.string()) && !found.holds(r) {
		return nil
	}
	found.held.Store(r.number)
	return found
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

// holds tells whether what e rests on is the same in r as where e was computed:
// the table in doc.go, read from the other side.
func (e *entry) holds(r *root) bool {
	s, k := r.state, e.key()
	if e.held.Load() < r.since || e.revision > s.header.Revision || !s.Known(k.subject) {
		return false
	}
	owner, ok := s.OwnerOf(k.resource())
	if !ok || owner != e.permissions.owner.string() {
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
