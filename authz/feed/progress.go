package feed

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/usher-authz/usher/policies"
)

// progress is how far a client is, for those who ask from other goroutines.
type progress struct {
	clock func() time.Time
	ready chan struct{} // closed once caught up for the first time
	moved chan struct{} // has something once at has moved; for one reader

	mu   sync.Mutex
	at   Position
	some bool // at is of something
	// answers is the revision that is answered from, if any is: on demand it lies
	// behind at while notices lead up to a beginning.
	answers   policies.Revision
	answering bool
	target    *policies.Revision
	pending   *heard // the oldest heartbeat that named a revision not applied yet
	fresh     time.Time
	up        bool
	connects  uint64
	failed    uint64
	rejected  bool // the last attempt was
	refusals  map[RefusalKind]uint64
}

type heard struct {
	revision policies.Revision
	at       time.Time
}

func newProgress(clock func() time.Time) *progress {
	return &progress{clock: clock, ready: make(chan struct{}), moved: make(chan struct{}, 1), refusals: map[RefusalKind]uint64{}}
}

// heartbeat takes what the server was at, some time ago.
func (p *progress) heartbeat(h *Heartbeat, ago time.Duration) {
	now := p.clock().Add(-ago)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.target == nil {
		p.target = &h.Revision
	}
	if p.some && p.at.Revision >= h.Revision {
		p.fresh, p.pending = now, nil
	} else if p.pending == nil {
		p.pending = &heard{h.Revision, now}
	}
	p.catchUp()
}

// applied says that the receiver has reached at, and answers from floor, if it is some.
func (p *progress) applied(at, floor Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.some = at, true
	p.answers, p.answering = floor.Revision, floor.Platform != ""
	select {
	case p.moved <- struct{}{}:
	default:
	}
	if p.pending != nil && at.Revision >= p.pending.revision {
		p.fresh, p.pending = p.pending.at, nil
	}
	p.catchUp()
}

func (p *progress) catchUp() {
	if p.target == nil || !p.some || p.at.Revision < *p.target {
		return
	}
	select {
	case <-p.ready:
	default:
		close(p.ready)
	}
}

func (p *progress) connected(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = up
	if !up {
		return
	}
	p.connects++
	p.rejected = false
	// What the last server said it was at may have been a lie, or another platform's:
	// it must not keep this client from ever being ready, or fresh.
	p.target, p.pending = nil, nil
}

// lost says that a connection, or an attempt at one, has ended.
func (p *progress) lost(rejected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed++
	p.rejected = rejected
}

func (p *progress) refused(kind RefusalKind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals[kind]++
}

// answersFrom is the revision that is answered from; false: none is.
func (p *progress) answersFrom() (policies.Revision, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers, p.answering
}

func (p *progress) revision() policies.Revision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at.Revision
}

// Status is how a client stands.
type Status struct {
	Connected bool
	Ready     bool              // has been caught up once
	Platform  string            // empty before the first state
	Revision  policies.Revision // of the last change applied or notice taken
	// Fresh is when, by the client's clock, a heartbeat came that named a revision
	// that is applied now: the state was the platform's then. Zero: never yet.
	Fresh    time.Time
	Connects uint64
	Failed   uint64 // ends of connections and of attempts at one
	// Rejected: the server answered the last attempt with a 4xx. It is there, and does
	// not serve this client.
	Rejected bool
	Refusals map[RefusalKind]uint64 // those that happened
}

// Status is how the client stands.
func (c *Client) Status() Status {
	p := c.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Connected: p.up, Platform: p.at.Platform, Revision: p.at.Revision, Fresh: p.fresh,
		Connects: p.connects, Failed: p.failed, Rejected: p.rejected, Refusals: maps.Clone(p.refusals),
	}
	select {
	case <-p.ready:
		s.Ready = true
	default:
	}
	return s
}

// Age is how long ago the state was known to be the platform's present one; false:
// it never was in the life of this client.
func (c *Client) Age() (time.Duration, bool) { return c.progress.age() }

func (p *progress) age() (time.Duration, bool) {
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fresh.IsZero() {
		return 0, false
	}
	return max(now.Sub(p.fresh), 0), true
}

// Ready tells whether the client has been caught up once: it has applied the
// revision that the first heartbeat named. It stays true.
func (c *Client) Ready() bool {
	select {
	case <-c.progress.ready:
		return true
	default:
		return false
	}
}

// WaitReady returns once the client is ready, or with ctx's error.
func (c *Client) WaitReady(ctx context.Context) error {
	select {
	case <-c.progress.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
