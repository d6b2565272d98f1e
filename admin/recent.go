package admin

import (
	"slices"
	"sync"

	"github.com/usher-authz/usher/policies"
)

// recent are the changes that the tail read last, each after the one before: the feed
// passes them on without reading the log a second time, while sidecars wait.
type recent struct {
	mu      sync.Mutex
	changes []policies.Change
}

const (
	maxRecent       = 256      // more than an import commits at once
	maxRecentChange = 64 << 10 // bytes; that of a large account's import is for the log
)

func (r *recent) add(c policies.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.changes); n > 0 && r.changes[n-1].Revision+1 != c.Revision || len(c.Objects) > maxRecentChange {
		r.changes = nil
	}
	if len(c.Objects) > maxRecentChange {
		return
	}
	if len(r.changes) == maxRecent {
		r.changes = slices.Delete(r.changes, 0, 1)
	}
	r.changes = append(r.changes, c)
}

// after are those that come right after a revision; none: the log may have them.
func (r *recent) after(revision policies.Revision, limit int) []policies.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.changes, func(c policies.Change) bool { return c.Revision == revision+1 })
	if at < 0 {
		return nil
	}
	return slices.Clone(r.changes[at:min(len(r.changes), at+limit)])
}

func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = nil
}
