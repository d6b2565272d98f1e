package authz

import (
	"context"
	"errors"
	"slices"

	"github.com/usher-authz/usher/policies"
)

// Builder makes a [State] from objects in any order: fastest is the order of
// [State.Objects], in which each comes after those that it refers to. It is for
// one goroutine, and is used up after the first error or Build.
type Builder struct {
	edit    *edit
	policy  policies.Object
	reuse   *Policy
	waiting []policies.Object // came before what they refer to
}

// NewBuilder begins a state.
func NewBuilder(header Header) *Builder {
	e := newEdit(&State{header: header})
	e.fresh = true
	e.room = &room{}
	return &Builder{edit: e}
}

// Reuse lets the new state share p if the policy in force is the same, instead of
// compiling it again. p may be nil.
func (b *Builder) Reuse(p *Policy) { b.reuse = p }

// SetChanged tells which revision last touched owner's account, where that is
// known, after the account was added; else it is the header's revision.
func (b *Builder) SetChanged(owner policies.AccountID, changed policies.Revision) {
	if a, ok := b.edit.next.accounts.get(owner); ok {
		a.changed = min(changed, b.edit.next.header.Revision)
	}
}

// Add takes one object. Deletions, unknown kinds and objects that contradict what
// was added before are an [ObjectError].
func (b *Builder) Add(o policies.Object) error {
	switch {
	case o.Deleted():
		return fault(o, "is a deletion, and a state begins with nothing")
	case !slices.Contains(kindOrder, o.Kind):
		return fault(o, "is of a kind that is not known here")
	case b.exists(o):
		return fault(o, "stands twice")
	case o.Kind == policies.KindPolicyInForce:
		b.policy = o
		return nil
	case !b.ready(o):
		b.waiting = append(b.waiting, o)
		return nil
	default:
		return b.edit.put(o)
	}
}

// Build verifies all and gives the state. Objects that refer to what is not there
// are an [ObjectError].
func (b *Builder) Build(ctx context.Context) (*State, error) {
	next := b.edit.next
	if b.policy.Kind == "" {
		return nil, errors.New("the state has no policy in force")
	}
	policy, err := compileObject(ctx, b.policy, b.reuse)
	if err != nil {
		return nil, err
	}
	next.policy = policy
	if err := b.finish(); err != nil {
		return nil, err
	}
	b.pack()
	for id, a := range next.accounts.all() {
		if err := a.verifyAll(); err != nil {
			return nil, err
		}
		for _, m := range a.members.all() {
			if reason := next.verifyMember(m); reason != "" {
				return nil, &ObjectError{Kind: policies.KindMember, Owner: id, ID: string(m.id.string()), Reason: reason}
			}
		}
	}
	return next, nil
}

// finish puts what had to wait.
func (b *Builder) finish() error {
	slices.SortStableFunc(b.waiting, func(x, y policies.Object) int { return rank(x) - rank(y) })
	for _, o := range b.waiting {
		if b.exists(o) {
			return fault(o, "stands twice")
		}
		if err := b.edit.put(o); err != nil {
			return err
		}
	}
	b.waiting = nil
	return nil
}

// pack makes every table as small as it can be, with ids that are held once.
func (b *Builder) pack() {
	next := b.edit.next
	next.accounts.pack()
	next.environments.pack()
	next.groups.pack()
	for _, a := range next.accounts.all() {
		a.pack(next.accounts)
	}
}

func (a *Account) pack(accounts table[policies.AccountID, *Account]) {
	a.groups.pack()
	a.environments.pack()
	a.roles.pack()
	if a.custom != nil {
		a.custom.policies.pack()
		a.custom.actions.pack()
	}
	a.members.pack()
	for _, m := range a.members.all() {
		m.grants.environments.pack()
		m.grants.groups.pack()
	}
	subjects := a.subjects.pairs()
	for i := range subjects {
		m := subjects[i].value
		m.account = accounts.text(m.account.string()) // it may have come after the member
		subjects[i].key = m.account
	}
	a.subjects = tableOf(subjects)
}

// ready tells whether what o hangs on was added already.
func (b *Builder) ready(o policies.Object) bool {
	if o.Kind == policies.KindToken || o.Kind == policies.KindAccount {
		return true
	}
	a, ok := b.edit.next.accounts.get(o.Owner)
	if !ok || o.Kind != policies.KindGrant {
		return ok
	}
	key, err := policies.ParseGrantKey(o.ID)
	if err != nil {
		return true // put says what is wrong
	}
	_, ok = a.members.get(key.Member)
	return ok && a.has(key.Resource)
}

func (b *Builder) exists(o policies.Object) bool {
	switch o.Kind {
	case policies.KindPolicyInForce:
		return b.policy.Kind != ""
	case policies.KindToken:
		_, ok := b.edit.next.tokens.get(o.ID)
		return ok
	case policies.KindAccount:
		return b.edit.next.Known(policies.AccountID(o.ID))
	default:
	}
	a, ok := b.edit.next.accounts.get(o.Owner)
	return ok && a.exists(o)
}

// exists tells whether the account has the object that o is about.
func (a *Account) exists(o policies.Object) bool {
	ok := false
	switch o.Kind {
	case policies.KindGroup:
		_, ok = a.groups.get(policies.GroupID(o.ID))
	case policies.KindEnvironment:
		_, ok = a.environments.get(policies.EnvironmentID(o.ID))
	case policies.KindPolicy:
		_, ok = a.own().policies.get(policies.PolicyID(o.ID))
	case policies.KindRole:
		_, ok = a.roles.get(policies.RoleID(o.ID))
	case policies.KindMember:
		_, ok = a.members.get(policies.CollaborationID(o.ID))
	case policies.KindGrant:
		if key, err := policies.ParseGrantKey(o.ID); err == nil {
			if m, found := a.members.get(key.Member); found {
				_, ok = m.grants.get(a.ID(), key.Resource)
			}
		}
	default:
	}
	return ok
}

// BuildAccount makes the account of owner from the objects of
// [State.AccountObjects], in any order; changed is the last revision that touched
// it. What lies outside the account (do the members' accounts exist?) is not
// verified; what does not belong into it, or contradicts the rest, is an
// [ObjectError].
func BuildAccount(owner policies.AccountID, changed policies.Revision, objects []policies.Object) (*Account, error) {
	b := NewBuilder(Header{Revision: changed})
	for _, o := range objects {
		inside := o.Owner == owner && o.Kind != policies.KindAccount && o.Kind != policies.KindToken && o.Kind != policies.KindPolicyInForce
		if !inside && (o.Kind != policies.KindAccount || o.ID != string(owner)) {
			return nil, fault(o, "does not belong to the account %q", owner)
		}
		if err := b.Add(o); err != nil {
			return nil, err
		}
	}
	if err := b.finish(); err != nil {
		return nil, err
	}
	a, ok := b.edit.next.Account(owner)
	if !ok {
		return nil, &policies.NotFoundError{Kind: string(policies.KindAccount), ID: string(owner)}
	}
	b.pack()
	return a, a.verifyAll()
}
