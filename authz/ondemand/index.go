package ondemand

import (
	"sync"

	"github.com/usher-authz/usher/policies"
)

// index remembers which revision last touched what, for every notice after its
// floor. It is bounded by a number of names: when they are too many, the older half
// is forgotten and the floor rises to the last revision of that half. It never
// says that something was left alone when it was not.
//
// Notices go in before the root that has their revision is published. So a reader
// may see notices of revisions after its root's: it then takes a fact for touched
// that was not yet, which costs it a look-up.
type index struct {
	half int // names that a generation holds at most

	mu    sync.RWMutex
	floor policies.Revision
	young map[touchable]policies.Revision
	old   map[touchable]policies.Revision
	// youngLast and oldLast are the greatest revisions in them.
	youngLast, oldLast policies.Revision
}

// newIndex holds the notices after floor, at most limit names.
func newIndex(floor policies.Revision, limit int) *index {
	return &index{
		half: max(limit/2, 1), floor: floor,
		young: map[touchable]policies.Revision{}, old: map[touchable]policies.Revision{},
	}
}

// touch notes what revision touched. Revisions come in order.
func (x *index) touch(revision policies.Revision, names []touchable) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range names {
		if len(x.young) >= x.half {
			x.forget()
		}
		x.young[n] = revision
		x.youngLast = revision
	}
}

// forget drops the older half. What was dated before the floor needs the admin's
// word from now on.
func (x *index) forget() {
	x.floor = max(x.floor, x.oldLast)
	x.old, x.oldLast = x.young, x.youngLast
	x.young = make(map[touchable]policies.Revision, x.half)
}

// verdict is what the index knows about a fact.
type verdict int

const (
	// untouched: no notice after the fact's date names what it rests on.
	untouched verdict = iota
	// touched: one does.
	touched
	// forgotten: the fact is older than the notices that are remembered.
	forgotten
)

// judge tells whether a fact that was true at revision date still is, as far as
// notices say, given the names that it rests on.
func (x *index) judge(date policies.Revision, names []touchable) verdict {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, n := range names {
		if x.last(n) > date {
			return touched
		}
	}
	if date < x.floor {
		return forgotten
	}
	return untouched
}

// last is the last revision known to have touched n, 0 if none is.
func (x *index) last(n touchable) policies.Revision {
	if r, ok := x.young[n]; ok {
		return r
	}
	return x.old[n]
}

// size is the number of names, and the floor.
func (x *index) size() (int, policies.Revision) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.young) + len(x.old), x.floor
}
