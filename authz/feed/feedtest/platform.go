// Package feedtest is a platform in memory, for tests of what serves or follows the
// feed: a state, a change log with its chain, writes, a restore from a backup and a
// new epoch.
package feedtest

import (
	"context"
	"crypto/sha256"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// module stands for the Rego that decides, which takes a second to compile: the feed
// carries it and does not care.
const module = `package usher.authz

effective := {"reason": "no_collaboration"}

levels := {}

decision := {"decision": false}

allow := false
`

// Policy is a small policy in force, which denies everything.
func Policy(tb testing.TB) policies.PolicyInForce {
	tb.Helper()
	p, err := policies.NewPolicyInForce(policies.Catalogue{
		Policies: []policies.SystemPolicy{{
			ID: "environment.start", Path: "Environment", Name: "Start", Resources: policies.ResourceTypes,
			Actions: []policies.ActionName{"environment.control.StartEnv"},
		}},
		Roles: []policies.ExampleRole{},
	}, map[string]string{"usher/authz/authz.rego": module})
	must(tb, err)
	return p
}

// Platform is an admin replica's state and log. Its methods may be called from any
// number of goroutines.
type Platform struct {
	t testing.TB

	mu     sync.Mutex
	log    []policies.Change
	states []*authz.State // states[i] is the one right after log[i]
	next   chan struct{}  // closed when there is another state
	fault  error          // of Changes
	reads  int            // of Changes
}

// New makes a platform whose first revision has a small policy, a token and
// these objects. Its id is id.
func New(tb testing.TB, id string, objects ...policies.Object) *Platform {
	tb.Helper()
	p := &Platform{t: tb, next: make(chan struct{})}
	objects = append([]policies.Object{
		Object(tb, policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), Policy(tb)),
		Object(tb, policies.KindToken, "", "token-1", Token("1")),
	}, objects...)
	first := change(tb, 0, policies.Hash{}, 1, objects)
	b := authz.NewBuilder(authz.Header{Platform: id, Revision: first.Revision, Hash: first.Hash})
	for _, o := range objects {
		must(tb, b.Add(o))
	}
	s, err := b.Build(context.Background())
	must(tb, err)
	p.log, p.states = []policies.Change{first}, []*authz.State{s}
	return p
}

// Token is the body of a token with its own hash.
func Token(secret string) policies.TokenBody {
	hash := policies.Hash(sha256.Sum256([]byte(secret)))
	return policies.TokenBody{Hash: hash.String(), Scopes: []policies.Scope{policies.ScopeChecks}}
}

// Object is one object; a nil body is a deletion.
func Object(tb testing.TB, kind policies.Kind, owner policies.AccountID, id string, body any) policies.Object {
	tb.Helper()
	o, err := policies.NewObject(kind, owner, id, body)
	must(tb, err)
	return o
}

// Account is the object of an account.
func Account(tb testing.TB, id string) policies.Object {
	tb.Helper()
	return Object(tb, policies.KindAccount, "", id, policies.AccountBody{})
}

// Environment is the object of an environment in no group.
func Environment(tb testing.TB, owner policies.AccountID, id string) policies.Object {
	tb.Helper()
	return Object(tb, policies.KindEnvironment, owner, id, policies.EnvironmentBody{Groups: []policies.GroupID{}})
}

func change(tb testing.TB, after policies.Revision, hash policies.Hash, revision policies.Revision, objects []policies.Object) policies.Change {
	tb.Helper()
	encoded, err := policies.EncodeObjects(objects)
	must(tb, err)
	c := policies.Change{
		Revision: revision, Time: time.Date(2030, 1, 1, 0, 0, int(revision.Count()), 0, time.UTC),
		Objects: encoded, AuditHash: sha256.Sum256([]byte("audit " + revision.String())),
	}
	c.Hash = policies.ChainHash(hash, c.Revision, sha256.Sum256(c.Objects), c.AuditHash)
	must(tb, c.Follows(after, hash))
	return c
}

// Write makes the next revision of these objects.
func (p *Platform) Write(objects ...policies.Object) policies.Change {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(p.last().Revision()+1, objects)
}

// WriteEnvironments makes n revisions, each of one environment of owner, whose ids
// begin with prefix.
func (p *Platform) WriteEnvironments(owner policies.AccountID, prefix string, n int) {
	p.t.Helper()
	for i := range n {
		p.Write(Environment(p.t, owner, prefix+strconv.Itoa(i)))
	}
}

func (p *Platform) last() *authz.State { return p.states[len(p.states)-1] }

func (p *Platform) write(revision policies.Revision, objects []policies.Object) policies.Change {
	p.t.Helper()
	before := p.last()
	c := change(p.t, before.Revision(), before.Hash(), revision, objects)
	after, err := before.Apply(context.Background(), c)
	must(p.t, err)
	p.log, p.states = append(p.log, c), append(p.states, after)
	close(p.next)
	p.next = make(chan struct{})
	return c
}

// Restore loses every revision after to, as a restore from a backup does, and
// begins a new epoch with these objects.
func (p *Platform) Restore(to policies.Revision, objects ...policies.Object) policies.Change {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := p.last().Revision().Epoch() + 1
	i := slices.IndexFunc(p.log, func(c policies.Change) bool { return c.Revision == to })
	if i < 0 {
		p.t.Fatalf("the platform has no revision %d", to)
	}
	p.log, p.states = p.log[:i+1:i+1], p.states[:i+1:i+1]
	return p.write(policies.NewRevision(epoch, 1), objects)
}

// Rewrite loses every revision after to and writes other ones in the same epoch, as
// nothing may ever do: so that tests see it refused.
func (p *Platform) Rewrite(to policies.Revision, objects ...policies.Object) policies.Change {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.log, func(c policies.Change) bool { return c.Revision == to })
	if i < 0 {
		p.t.Fatalf("the platform has no revision %d", to)
	}
	p.log, p.states = p.log[:i+1:i+1], p.states[:i+1:i+1]
	return p.write(to+1, objects)
}

// State is the present one.
func (p *Platform) State() *authz.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last()
}

// WaitFor returns once State has revision, or with ctx's error.
func (p *Platform) WaitFor(ctx context.Context, revision policies.Revision) error {
	for {
		p.mu.Lock()
		reached, next := p.last().Revision() >= revision, p.next
		p.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Changes are the first changes after a revision.
func (p *Platform) Changes(_ context.Context, after policies.Revision, limit int) ([]policies.Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	if p.fault != nil {
		return nil, p.fault
	}
	i, _ := slices.BinarySearchFunc(p.log, after+1, func(c policies.Change, r policies.Revision) int {
		return int(int64(c.Revision) - int64(r))
	})
	return slices.Clone(p.log[i:min(i+limit, len(p.log))]), nil
}

// SetFault lets Changes fail with err; nil: no longer.
func (p *Platform) SetFault(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = err
}

// Reads is how often Changes was called.
func (p *Platform) Reads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads
}

// Log is all changes so far.
func (p *Platform) Log() []policies.Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// At is the state right after revision.
func (p *Platform) At(revision policies.Revision) *authz.State {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.states {
		if s.Revision() == revision {
			return s
		}
	}
	p.t.Fatalf("the platform has no revision %d", revision)
	return nil
}

// Objects are all objects of s, in their order.
func Objects(tb testing.TB, s *authz.State) []policies.Object {
	tb.Helper()
	var all []policies.Object
	for o, err := range s.Objects() {
		must(tb, err)
		all = append(all, o)
	}
	return all
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
