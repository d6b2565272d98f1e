package difference

import (
	"context"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Explained is what a record has on a resource, as the check would use it, and what
// every level has. It is shared: do not change it.
type Explained struct {
	Level             policies.Level // empty: none counts
	Roles             []string       // names of those of that level
	ReceiveLoadAlerts bool
	Levels            *authz.Levels // nil unless the collaboration is active
}

// Explain is what a record has on a resource at a time.
func (a *Asker) Explain(ctx context.Context, at time.Time, m authz.Member, resource policies.Resource) (*Explained, error) {
	if a.account == nil || !a.has(resource) {
		return &Explained{}, nil
	}
	grants := a.shape(at, m.Status(), resource, m.Grant)
	for _, g := range a.numbers { // levels name the groups
		a.key = append(append(a.key, '|'), g...)
	}
	if found := a.shapes.find(a); found != nil {
		return found, nil
	}
	at, view := a.suppose(at, m.Status(), grants)
	found, err := a.state.Policy().Effective(ctx, view, at, authz.Supposed, resource)
	if err != nil {
		return nil, err
	}
	levels, err := a.state.Policy().Levels(ctx, view, at, authz.Supposed, resource)
	if err != nil {
		return nil, err
	}
	made := &Explained{Level: found.Level, Roles: found.Roles, ReceiveLoadAlerts: found.ReceiveLoadAlerts, Levels: levels}
	a.shapes.keep(a, made)
	return made, nil
}

// maxShapes is how many shapes are kept. Those of an account of ten thousand members
// on one resource are as many as it has roles, more or less.
const maxShapes = 50_000

// Shapes keeps what Rego explained, by shape, from one asker to the next: as long as
// roles, custom policies and the policy in force are the same. The zero value is empty,
// and may be used from any number of goroutines.
type Shapes struct {
	mu     sync.Mutex
	owners map[policies.AccountID]*shapesOf
	held   int
}

type shapesOf struct {
	policy  *authz.Policy
	account *authz.Account
	known   map[string]*Explained
}

// NewAsker is [NewAsker], with what was explained before.
func (s *Shapes) NewAsker(state *authz.State, owner policies.AccountID) *Asker {
	a := NewAsker(state, owner)
	a.shapes = s
	return a
}

func (o *shapesOf) holdFor(a *Asker) bool {
	return o.policy == a.state.Policy() && o.account.MeansAs(a.account)
}

func (s *Shapes) find(a *Asker) *Explained {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.owners[a.owner]
	if !ok || !of.holdFor(a) {
		return nil
	}
	return of.known[string(a.key)]
}

// keep forgets everything when there is no more room: what is asked for again comes
// back for one evaluation each.
func (s *Shapes) keep(a *Asker, found *Explained) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners == nil || s.held >= maxShapes {
		s.owners, s.held = map[policies.AccountID]*shapesOf{}, 0
	}
	of, ok := s.owners[a.owner]
	if !ok || !of.holdFor(a) {
		if ok {
			s.held -= len(of.known)
		}
		of = &shapesOf{a.state.Policy(), a.account, map[string]*Explained{}}
		s.owners[a.owner] = of
	}
	if _, ok := of.known[string(a.key)]; !ok {
		s.held++
	}
	of.known[string(a.key)] = found
}
