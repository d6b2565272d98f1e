package ondemand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
)

const (
	// lookupTimeout bounds one request to the admin, its answer included, however slowly
	// that comes. A server that sends nothing is given up by the feed's client, in
	// [feed.Silence].
	lookupTimeout = 30 * time.Second
	// lookupWorkers is how many requests to the admin are under way at most.
	lookupWorkers = 4
	// lookupAccounts are in one request at most, which has [policies.MaxLookups] things
	// at most: accounts may be large, and are wanted soon.
	lookupAccounts = 32
	// lookupQueue bounds the names that wait for a request; more are refused.
	lookupQueue = 1 << 16
)

// admin is where facts come from that nobody else has: the feed's client, or a
// test's.
type admin interface {
	Lookup(ctx context.Context, req feed.LookupRequest) (feed.LookupResponse, error)
}

// errStopped refuses a look-up because the engine has ended.
var errStopped = errors.New("the engine has stopped")

// errBusy refuses a look-up because too many wait already.
var errBusy = errors.New("too many look-ups wait for the admin server")

// want is a fact that the admin is asked for. Of an account, since is a revision
// at which the asker has it: then "unchanged" will do. Zero: in full.
type want struct {
	name  name
	since policies.Revision
}

// lookups ask the admin: what several questions need at once goes into one
// request, and what is on its way already is not asked for again.
type lookups struct {
	admin   admin
	breaker *breaker
	metrics *metrics
	// root gives the root in force; learned takes facts as they come.
	root    func() *root
	learned func(*generation, *fact)

	wake    chan struct{} // has room for one
	mu      sync.Mutex
	pending map[want]*ask // waits for a request
	flying  map[want]*ask // is on its way
	stopped bool          // nobody sends requests any more
}

// ask is one fact on its way. What it found is read after done is closed: facts
// (an account's stamp comes with the account), the revision, or err.
type ask struct {
	want     want
	min      policies.Revision // that the request asked for, at least
	done     chan struct{}
	facts    []*fact
	revision policies.Revision
	err      error
}

func newLookups(a admin, b *breaker, m *metrics, root func() *root, learned func(*generation, *fact)) *lookups {
	return &lookups{
		admin: a, breaker: b, metrics: m, root: root, learned: learned,
		wake: make(chan struct{}, 1), pending: map[want]*ask{}, flying: map[want]*ask{},
	}
}

// fetch asks for wants at revision least or later, and waits for all. The facts
// are of the revisions that they say; the greatest is given too.
func (l *lookups) fetch(ctx context.Context, least policies.Revision, wants []want) ([]*fact, policies.Revision, error) {
	asks, err := l.join(least, wants)
	if err != nil {
		return nil, 0, err
	}
	var facts []*fact
	var revision policies.Revision
	for _, a := range asks {
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		if a.err != nil {
			return nil, 0, a.err
		}
		facts = append(facts, a.facts...)
		revision = max(revision, a.revision)
	}
	return facts, revision, nil
}

// join puts wants into the queue, unless they are there, or on their way and
// recent enough.
func (l *lookups) join(least policies.Revision, wants []want) ([]*ask, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, errStopped
	}
	if len(l.pending)+len(wants) > lookupQueue {
		return nil, errBusy
	}
	asks := make([]*ask, len(wants))
	for i, w := range wants {
		if a := l.flying[w]; a != nil && a.min >= least {
			asks[i] = a
			continue
		}
		if l.pending[w] == nil {
			l.pending[w] = &ask{want: w, done: make(chan struct{})}
		}
		asks[i] = l.pending[w]
	}
	l.nudge()
	return asks, nil
}

func (l *lookups) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run sends requests until ctx ends; what then waits fails.
func (l *lookups) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range lookupWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-l.wake:
				}
				for batch := l.take(); len(batch) > 0; batch = l.take() {
					l.ask(ctx, batch)
				}
			}
		})
	}
	workers.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for w, a := range l.pending {
		delete(l.pending, w)
		a.err = errStopped
		close(a.done)
	}
}

// take moves what one request may hold from pending to flying. The revision that
// the request asks for is taken after: it is at least that of all who wait.
func (l *lookups) take() []*ask {
	l.mu.Lock()
	defer l.mu.Unlock()
	var batch []*ask
	accounts := 0
	for w, a := range l.pending {
		if len(batch) == policies.MaxLookups {
			break
		}
		if w.name.kind == kindAccount {
			if accounts++; accounts > lookupAccounts {
				continue
			}
		}
		// The same name may fly for somebody who is content with an older revision.
		delete(l.pending, w)
		l.flying[w] = a
		batch = append(batch, a)
	}
	if len(l.pending) > 0 {
		l.nudge()
	}
	var least policies.Revision
	if r := l.root(); r != nil {
		least = r.revision
	}
	for _, a := range batch {
		a.min = least
	}
	return batch
}

// ask sends one request and hands its answer out.
func (l *lookups) ask(ctx context.Context, batch []*ask) {
	req := feed.LookupRequest{Min: batch[0].min}
	accounts := map[policies.AccountID]policies.Revision{}
	for _, a := range batch {
		switch n := a.want.name; n.kind {
		case kindAccount:
			// Asked for both in full and since a revision: in full does for both.
			id := policies.AccountID(n.id)
			if have, ok := accounts[id]; !ok || a.want.since < have {
				accounts[id] = a.want.since
			}
		case kindOwner:
			req.Resources = append(req.Resources, policies.Resource{Type: n.typ, ID: n.id})
		case kindSubject:
			req.Subjects = append(req.Subjects, policies.AccountID(n.id))
		case kindPermissions, kindStamp:
		}
	}
	for id, since := range accounts {
		req.Accounts = append(req.Accounts, feed.LookupAccountRequest{ID: id, Since: since})
	}
	r := l.root()
	var resp feed.LookupResponse
	err := l.breaker.do(ctx, func() (err error) {
		defer l.metrics.since(layerAdmin, time.Now())
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		resp, err = l.admin.Lookup(ctx, req)
		return err
	})
	l.answer(r, batch, resp, err)
}

// answer gives each ask its facts, or the error.
func (l *lookups) answer(r *root, batch []*ask, resp feed.LookupResponse, err error) {
	built := map[policies.AccountID][]*fact{}
	for _, a := range batch {
		if a.err = err; err == nil {
			a.revision = resp.Revision
			a.facts, a.err = factsOf(a.want.name, resp, built)
		}
		result := outcomeHit
		if a.err != nil {
			result = outcomeError
		}
		l.metrics.count(layerAdmin, a.want.name.kind, result)
		if r != nil && r.generation.epoch == resp.Revision.Epoch() {
			for _, f := range a.facts {
				l.learned(r.generation, f)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range batch {
		if l.flying[a.want] == a {
			delete(l.flying, a.want)
		}
		close(a.done)
	}
}

// factsOf is what resp says of n. Accounts are built once.
func factsOf(n name, resp feed.LookupResponse, built map[policies.AccountID][]*fact) ([]*fact, error) {
	f := newFact(n, resp.Revision, resp.Revision)
	switch n.kind {
	case kindSubject:
		f.exists = resp.Subjects[policies.AccountID(n.id)]
		return []*fact{f}, nil
	case kindOwner:
		if owner := resp.Owners[policies.Resource{Type: n.typ, ID: n.id}.String()]; owner != nil {
			f.exists, f.owner = true, *owner
		}
		return []*fact{f}, nil
	case kindAccount:
		id := policies.AccountID(n.id)
		if facts, ok := built[id]; ok {
			return facts, nil
		}
		facts, err := accountFacts(f, resp.Accounts[id], resp.Revision)
		built[id] = facts
		return facts, err
	case kindPermissions, kindStamp:
	}
	return nil, fmt.Errorf("the admin server is not asked for %s", n.kind)
}

// accountFacts is what a tells: the stamp of an account, and the account unless it
// is as it was; no account if a is nil.
func accountFacts(f *fact, a *feed.LookupAccount, at policies.Revision) ([]*fact, error) {
	if a == nil {
		return []*fact{f}, nil
	}
	id := policies.AccountID(f.name.id)
	stamp := newFact(stampOf(id), a.Changed, at)
	stamp.exists = true
	if a.Unchanged {
		return []*fact{stamp}, nil
	}
	size := 0
	for _, o := range a.Objects {
		size += len(o.ID) + len(o.Body)
	}
	account, err := authz.BuildAccount(id, a.Changed, a.Objects)
	if err != nil {
		return nil, fmt.Errorf("build account %q of revision %d: %w", id, at, err)
	}
	f = newFact(f.name, a.Changed, at)
	f.exists = true
	f.setAccount(account, size)
	return []*fact{f, stamp}, nil
}
