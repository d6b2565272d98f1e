package authz

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Sought is what a [Search] looks for.
type Sought uint8

// What can be looked for.
const (
	SoughtSubjects  Sought = iota // who may do the action on the resource
	SoughtResources               // on which resources of the type the subject may do the action
	SoughtActions                 // which actions the subject may do on the resource
)

// Search is a [Question] with one part left open: the subject's id, the resource's
// id, or the action. Every field is as the caller sent it, and what is open is not
// looked at. It explains nothing. Guardrails read its Request as that of each check.
type Search struct {
	Sought   Sought
	Question Question
	// Limit is the most that is found at once.
	Limit int
	// From is where an earlier page ended, nil to begin. A page is of the same
	// revision as the first.
	From *Place
}

// Place is where a page of a [Search] ended: at a revision, after something found.
type Place struct {
	Revision policies.Revision
	After    string // opaque to whoever carries it; empty: before all
}

// Found is one page of a [Search]: all for which a check says yes, in an order that
// stays.
type Found struct {
	Revision policies.Revision
	IDs      []string // of subjects or resources, or names of actions
	Next     *Place   // where the next page begins; nil: there is no more
	// Guarded: guardrails had their say. The next page must come with the same Request.
	Guarded bool
}

// Searcher answers searches. [Engine] is the resident one; the on-demand engine
// passes them on. Methods may be called from any number of goroutines.
type Searcher interface {
	// Search finds from revision atLeast or a later one, waiting as [Decider.Check]
	// does. Errors are those of Check, or a [PlaceError].
	Search(ctx context.Context, atLeast policies.Revision, s Search) (Found, error)
}

var _ Searcher = (*Engine)(nil)

// Search implements [Searcher].
func (e *Engine) Search(ctx context.Context, atLeast policies.Revision, s Search) (Found, error) {
	r, err := e.rootOf(ctx, atLeast, s.From)
	if err != nil {
		return Found{}, err
	}
	w := &seeker{engine: e, root: r, now: e.now(), search: s, found: Found{Revision: r.state.Revision(), Guarded: r.state.policy.guards(&s)}}
	if s.From != nil {
		w.last = s.From.After
	}
	switch s.Sought {
	case SoughtSubjects:
		err = w.subjects(ctx)
	case SoughtResources:
		err = w.resources(ctx)
	case SoughtActions:
		err = w.actions(ctx)
	}
	if err != nil {
		return Found{}, err
	}
	if w.found.Next != nil {
		e.kept.keep(r, &e.current, w.now)
	}
	return w.found, nil
}

// rootOf is the root that a search is answered from: the one in force, or for a
// later page the one that the first was answered from.
func (e *Engine) rootOf(ctx context.Context, atLeast policies.Revision, from *Place) (*root, error) {
	if from == nil {
		return e.rootAt(ctx, atLeast)
	}
	if atLeast > from.Revision {
		return nil, &PlaceError{from.Revision, "the page is of an older revision than is demanded"}
	}
	if r := e.kept.find(from.Revision, e.now()); r != nil {
		return r, nil
	}
	r, err := e.rootAt(ctx, from.Revision) // another sidecar may have been ahead
	if err != nil {
		return nil, err
	}
	if r.state.Revision() != from.Revision {
		return nil, &PlaceError{from.Revision, "the revision that the page is of is no longer kept"}
	}
	return r, nil
}

// seeker gathers one page.
type seeker struct {
	engine *Engine
	root   *root
	now    int64
	search Search
	found  Found
	last   string // the place of what was found last
}

// take puts what was found on the page; false: the page was full already, and ends.
func (w *seeker) take(id, place string) bool {
	if len(w.found.IDs) >= w.search.Limit {
		w.found.Next = &Place{Revision: w.found.Revision, After: w.last}
		return false
	}
	w.found.IDs, w.last = append(w.found.IDs, id), place
	return true
}

// after is where the search goes on: keys up to it were looked at before.
func (w *seeker) after() string {
	if w.search.From == nil {
		return ""
	}
	return w.search.From.After
}

// subjects asks of the owner of the resource and all its members, in the order of
// their accounts. Of anybody else the owner's account has nothing that Rego could
// find.
func (w *seeker) subjects(ctx context.Context) error {
	q, state := w.search.Question, w.root.state
	owner, ok := state.OwnerOf(policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID})
	if !ok || q.SubjectType != subjectAccount {
		return nil
	}
	account, ok := state.Account(owner)
	if !ok {
		return nil
	}
	after := policies.AccountID(w.after())
	same := newAlike(w.engine, state, w.now, policies.TypeAccount)
	for id := range withOwner(account, after) {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.Subject = string(id)
		allow, err := same.allows(ctx, &q, q.Subject, owner)
		if err != nil {
			return err
		}
		if allow && !w.take(q.Subject, q.Subject) {
			return nil
		}
	}
	return nil
}

// withOwner are the accounts of a's members and its owner that come after one, in
// order.
func withOwner(a *Account, after policies.AccountID) iter.Seq[policies.AccountID] {
	return func(yield func(policies.AccountID) bool) {
		owner := a.ID()
		given := owner <= after
		for id := range a.subjects.from(after) {
			if id == after || id == owner {
				continue
			}
			if !given && owner < id {
				given = true
				if !yield(owner) {
					return
				}
			}
			if !yield(id) {
				return
			}
		}
		if !given {
			yield(owner)
		}
	}
}

// placeOf is the place of a resource: its owner and its id, which no id contains
// the separator of.
func placeOf(owner policies.AccountID, id string) string { return string(owner) + "/" + id }

// resources asks of the subject's own resources, and of those of every owner that
// has a record of it, owner by owner. At any other owner there is nothing that Rego
// could find.
func (w *seeker) resources(ctx context.Context) error {
	q, state := w.search.Question, w.root.state
	subject := policies.AccountID(q.Subject)
	kind := policies.ResourceType(q.ResourceType)
	if q.SubjectType != subjectAccount || !state.Known(subject) || kindOf(kind) == kindUnknown {
		return nil
	}
	from, after, _ := strings.Cut(w.after(), "/")
	for owner, account := range state.accounts.from(policies.AccountID(from)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ok := account.subjects.get(subject); !ok && owner != subject {
			continue
		}
		if string(owner) != from {
			after = ""
		}
		same := newAlike(w.engine, state, w.now, kind)
		for id := range account.resources(kind, after) {
			if err := ctx.Err(); err != nil {
				return err
			}
			q.ResourceID = id
			allow, err := same.allows(ctx, &q, id, owner)
			if err != nil {
				return err
			}
			if allow && !w.take(id, placeOf(owner, id)) {
				return nil
			}
		}
	}
	return nil
}

// resources are the ids of a's resources of a type that come after one, in order.
func (a *Account) resources(kind policies.ResourceType, after string) iter.Seq[string] {
	switch kind {
	case policies.TypeEnvironment:
		return keysAfter(a.environments, policies.EnvironmentID(after))
	case policies.TypeGroup:
		return keysAfter(a.groups, policies.GroupID(after))
	default:
		return func(yield func(string) bool) {
			if string(a.ID()) > after {
				yield(string(a.ID()))
			}
		}
	}
}

func keysAfter[K ~string, V any](t table[K, V], after K) iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range t.from(after) {
			if key != after && !yield(string(key)) {
				return
			}
		}
	}
}

// actions asks of every action that is known to the resource's owner, in the order
// of names.
func (w *seeker) actions(ctx context.Context) error {
	q, state := w.search.Question, w.root.state
	owner, ok := state.OwnerOf(policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID})
	if !ok || q.SubjectType != subjectAccount {
		return nil
	}
	account, ok := state.Account(owner)
	if !ok {
		return nil
	}
	permissions, err := w.engine.permissions(ctx, w.root, q, w.now)
	if err != nil {
		return err
	}
	after := policies.ActionName(w.after())
	for name := range knownActions(state.policy, account) {
		q.Action = string(name)
		if name <= after {
			continue
		}
		allow, err := w.engine.passes(ctx, state, w.now, permissions, &q)
		if err != nil {
			return err
		}
		if allow && !w.take(q.Action, q.Action) {
			return nil
		}
	}
	return nil
}

// knownActions are the actions that the catalogue or a custom policy of a names, in
// order.
func knownActions(p *Policy, a *Account) iter.Seq[policies.ActionName] {
	return func(yield func(policies.ActionName) bool) {
		system := p.names
		for name := range a.own().actions.all() {
			for len(system) > 0 && system[0] < name {
				if !yield(system[0]) {
					return
				}
				system = system[1:]
			}
			if len(system) > 0 && system[0] == name {
				system = system[1:]
			}
			if !yield(name) {
				return
			}
		}
		for _, name := range system {
			if !yield(name) {
				return
			}
		}
	}
}

// passes tells whether a check of q says yes, which found are the permissions of. Where
// guardrails have their say, nothing is alike: they read the ids, too.
func (e *Engine) passes(ctx context.Context, view View, now int64, found *Permissions, q *Question) (bool, error) {
	if d := found.Decide(view, q); !d.Allow || !view.Policy().Guards(q.Action) {
		return d.Allow, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	d, err := view.Policy().Decision(ctx, view, at(now), *q)
	if err != nil {
		e.metrics.fails(ctx)
		e.guard.fails(ctx)
	}
	return d.Allow, err
}

// at is w's now as Rego has it.
func at(now int64) time.Time { return time.Unix(0, now) }
