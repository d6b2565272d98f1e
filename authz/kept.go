package authz

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-authz/usher/policies"
)

const (
	// keptRoots is how many revisions are kept for pages to come. They share all
	// that did not change with the one in force.
	keptRoots = 64
	// keptFor is how long a revision is kept since a page of it was asked for.
	keptFor = 5 * time.Minute
)

// kept are the roots that searches with pages to come are bound to. What changes
// everything empties it: then nothing is shared with the root in force any more, or
// it must not be answered from.
type kept struct {
	mu    sync.Mutex
	roots []keptRoot // the one that was used last stands last
}

type keptRoot struct {
	root  *root
	until int64
}

// keep keeps r, unless everything has changed since; current is the root in force.
func (k *kept) keep(r *root, current *atomic.Pointer[root], now int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.number < current.Load().since { // looked at here: clear comes after the root
		return
	}
	k.roots = slices.DeleteFunc(k.roots, func(have keptRoot) bool {
		return have.root.number == r.number || have.until <= now
	})
	if len(k.roots) == keptRoots {
		k.roots = slices.Delete(k.roots, 0, 1)
	}
	k.roots = append(k.roots, keptRoot{r, now + int64(keptFor)})
}

// find gives the kept root of a revision, nil if there is none.
func (k *kept) find(revision policies.Revision, now int64) *root {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, have := range k.roots {
		if have.until > now && have.root.state.Revision() == revision {
			return have.root
		}
	}
	return nil
}

// expire lets go of what nobody asked for in time.
func (k *kept) expire(now int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots = slices.DeleteFunc(k.roots, func(have keptRoot) bool { return have.until <= now })
}

func (k *kept) clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots = nil
}
