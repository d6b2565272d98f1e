package authz

import (
	"context"
	"errors"
	"hash/maphash"
	"runtime"
	"slices"
	"sync"

	"github.com/usher-authz/usher/policies"
)

// Builder makes a [State] from objects in any order: fastest is the order of
// [State.Objects], in which each comes after those that it refers to. Owners are dealt
// out to parts, which build their accounts at the same time as what comes next is
// read; so what is wrong with an object may be told by a later Add, or by Build. It is
// for one goroutine, and is used up after the first error or Build.
type Builder struct {
	edit   *edit // of tokens; its state becomes the one that is built
	policy policies.Object
	reuse  *Policy
	parts  []*part
	seed   maphash.Seed
	kind   policies.Kind      // of the account's object that was added last
	owner  policies.AccountID // of it
	part   *part              // of that owner
}

// maxParts bounds how many cores a builder uses.
const maxParts = 8

// NewBuilder begins a state.
func NewBuilder(header Header) *Builder {
	b := &Builder{edit: newEdit(&State{header: header}), seed: maphash.MakeSeed()}
	for range min(runtime.GOMAXPROCS(0), maxParts) {
		b.parts = append(b.parts, newPart(header, &room{}))
	}
	b.part = b.partOf("")
	return b
}

// Reuse lets the new state share p if the policy in force is the same, instead of
// compiling it again. p may be nil.
func (b *Builder) Reuse(p *Policy) { b.reuse = p }

// Add takes one object. Deletions, unknown kinds and objects that contradict what
// was added before are an [ObjectError].
func (b *Builder) Add(o policies.Object) error {
	switch {
	case o.Deleted():
		return fault(o, "is a deletion, and a state begins with nothing")
	case o.Kind != b.kind && !slices.Contains(kindOrder, o.Kind):
		return fault(o, "is of a kind that is not known here")
	case o.Kind == policies.KindPolicyInForce:
		if b.policy.Kind != "" {
			return fault(o, "stands twice")
		}
		b.policy = o
		return nil
	case o.Kind == policies.KindToken:
		if _, ok := b.edit.next.tokens.get(o.ID); ok {
			return fault(o, "stands twice")
		}
		return b.edit.putToken(o)
	}
	b.kind = o.Kind
	if owner := ownerOf(o); owner != b.owner {
		b.owner, b.part = owner, b.partOf(owner)
	}
	return b.part.add(o)
}

func (b *Builder) partOf(owner policies.AccountID) *part {
	return b.parts[maphash.String(b.seed, string(owner))%uint64(len(b.parts))]
}

// Build verifies all and gives the state. Objects that refer to what is not there
// are an [ObjectError].
func (b *Builder) Build(ctx context.Context) (*State, error) {
	next := b.edit.next
	if b.policy.Kind == "" {
		return nil, errors.New("the state has no policy in force")
	}
	err := each(b.parts, (*part).finish)
	if err != nil {
		return nil, err
	}
	if next.policy, err = compileObject(ctx, b.policy, b.reuse); err != nil {
		return nil, err
	}
	if err := b.join(); err != nil {
		return nil, err
	}
	err = each(b.parts, func(p *part) error { return p.meet(next) })
	return next, err
}

// join puts together what the parts have.
func (b *Builder) join() error {
	next := b.edit.next
	var accounts []pair[policies.AccountID, *Account]
	var environments []pair[policies.EnvironmentID, text[policies.AccountID]]
	var groups []pair[policies.GroupID, text[policies.AccountID]]
	for _, p := range b.parts {
		accounts = merge(accounts, p.edit.next.accounts.pairs())
		environments, p.environments = merge(environments, p.environments), nil
		groups, p.groups = merge(groups, p.groups), nil
	}
	if at := twice(environments); at > 0 {
		return belongs(policies.KindEnvironment, string(environments[at].key.string()), environments[at].value, environments[at-1].value)
	}
	if at := twice(groups); at > 0 {
		return belongs(policies.KindGroup, string(groups[at].key.string()), groups[at].value, groups[at-1].value)
	}
	next.accounts, next.environments, next.groups = tableOf(accounts), tableOf(environments), tableOf(groups)
	return nil
}

// each has all parts work at the same time, and gives the first error.
func each(parts []*part, work func(*part) error) error {
	errs := make([]error, len(parts))
	var wait sync.WaitGroup
	for i, p := range parts {
		wait.Go(func() { errs[i] = work(p) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// merge makes one sorted list of two.
func merge[K ~string, V any](one, other []pair[K, V]) []pair[K, V] {
	if len(one) == 0 {
		return other
	}
	merged := make([]pair[K, V], 0, len(one)+len(other))
	for len(one) > 0 && len(other) > 0 {
		if one[0].key.string() <= other[0].key.string() {
			merged, one = append(merged, one[0]), one[1:]
		} else {
			merged, other = append(merged, other[0]), other[1:]
		}
	}
	return append(append(merged, one...), other...)
}

// twice is the place of a key in a sorted list that is that of the pair before too; 0:
// there is none.
func twice[K ~string, V any](sorted []pair[K, V]) int {
	for i := 1; i < len(sorted); i++ {
		if sorted[i].key.string() == sorted[i-1].key.string() {
			return i
		}
	}
	return 0
}

func belongs(kind policies.Kind, id string, owner, other text[policies.AccountID]) error {
	return fault(policies.Object{Kind: kind, Owner: owner.string(), ID: id}, "belongs to %q", other.string())
}

// BuildAccount makes the account of owner from the objects of
// [State.AccountObjects], in any order; changed is the last revision that touched
// it. What lies outside the account (do the members' accounts exist?) is not
// verified; what does not belong into it, or contradicts the rest, is an
// [ObjectError].
func BuildAccount(owner policies.AccountID, changed policies.Revision, objects []policies.Object) (*Account, error) {
	p := newPart(Header{Revision: changed}, nil)
	for _, o := range objects {
		if ownerOf(o) != owner || o.Kind == policies.KindToken || o.Kind == policies.KindPolicyInForce {
			return nil, fault(o, "does not belong to the account %q", owner)
		}
		if o.Deleted() {
			return nil, fault(o, "is a deletion, and an account begins with nothing")
		}
		p.batch = append(p.batch, o)
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	a, ok := p.edit.next.Account(owner)
	if !ok {
		return nil, &policies.NotFoundError{Kind: string(policies.KindAccount), ID: string(owner)}
	}
	return a, nil
}
