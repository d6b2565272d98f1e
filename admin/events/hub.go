package events

import (
	"context"
	"sync"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const (
	batch = 1000
	// pause is after the log could not be read.
	pause = time.Second
)

// Source is the log behind an engine that follows it.
type Source interface {
	// WaitFor returns once the engine has a revision.
	WaitFor(ctx context.Context, revision policies.Revision) error
	// TouchedAfter are up to limit revisions after one, in order.
	TouchedAfter(ctx context.Context, after policies.Revision, limit int) ([]store.Touched, error)
}

// Hub wakes followers. It works while there are any. Its methods may be called
// from any number of goroutines.
type Hub struct {
	source Source

	mu        sync.Mutex
	followers map[*Follower]struct{}
	stop      context.CancelFunc // of run
	ended     chan struct{}      // closed when run has ended
}

// NewHub makes a hub.
func NewHub(source Source) *Hub {
	return &Hub{source: source, followers: map[*Follower]struct{}{}}
}

// Follower is one who follows an account, or the whole platform.
type Follower struct {
	hub   *Hub
	owner policies.AccountID
	wake  chan struct{}
}

// Follow begins to follow what belongs to owner, or everything if that is empty, from
// the revisions after one; [Follower.End] ends it. What the log has already is for the
// caller to read.
func (h *Hub) Follow(owner policies.AccountID, after policies.Revision) *Follower {
	f := &Follower{hub: h, owner: owner, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.followers[f] = struct{}{}
	if len(h.followers) == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		h.stop, h.ended = cancel, make(chan struct{})
		go h.run(ctx, after, h.ended)
	}
	return f
}

// Woken gets something when there may be something new.
func (f *Follower) Woken() <-chan struct{} { return f.wake }

// End ends f. The last one waits for the hub to rest.
func (f *Follower) End() {
	f.hub.mu.Lock()
	delete(f.hub.followers, f)
	last := len(f.hub.followers) == 0
	ended := f.hub.ended
	if last {
		f.hub.stop()
	}
	f.hub.mu.Unlock()
	if last {
		<-ended
	}
}

func (h *Hub) run(ctx context.Context, at policies.Revision, ended chan struct{}) {
	defer close(ended)
	for ctx.Err() == nil {
		if err := h.source.WaitFor(ctx, at+1); err != nil {
			h.rest(ctx)
			continue
		}
		touched, err := h.source.TouchedAfter(ctx, at, batch)
		if err != nil || len(touched) == 0 { // a log that was cut off has nothing after at
			h.wakeAll()
			h.rest(ctx)
			continue
		}
		at = touched[len(touched)-1].Revision
		if err := h.source.WaitFor(ctx, at); err != nil { // the log is ahead of the engine: by milliseconds
			h.wakeAll()
			continue
		}
		h.wakeTouched(touched)
	}
}

func (h *Hub) rest(ctx context.Context) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		f.nudge()
	}
}

// wakeTouched wakes those whose account is among the owners. What belongs to the
// platform may end a caller's right: it wakes all.
func (h *Hub) wakeTouched(touched []store.Touched) {
	owners := map[policies.AccountID]bool{}
	for _, t := range touched {
		for _, owner := range t.Owners {
			owners[owner] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		if f.owner == "" || owners[""] || owners[f.owner] {
			f.nudge()
		}
	}
}

func (f *Follower) nudge() {
	select {
	case f.wake <- struct{}{}:
	default: // a wake waits already
	}
}
