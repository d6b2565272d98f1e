package authz

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/policies"
)

// part builds the accounts of some owners. Objects are gathered, and a batch of them
// is put while the next is gathered: there is never more than one at work.
type part struct {
	edit *edit

	batch []policies.Object
	spare []policies.Object // the batch before
	work  chan struct{}     // closed when the batch before is done; nil: there is none
	err   error             // of what was done; read after work is closed

	waiting []policies.Object // came before what they refer to
	// Of all accounts of the part, sorted, once it is finished.
	environments []pair[policies.EnvironmentID, text[policies.AccountID]]
	groups       []pair[policies.GroupID, text[policies.AccountID]]
}

const partBatch = 2048

func newPart(header Header, in *room) *part {
	p := &part{edit: newEdit(&State{header: header})}
	p.edit.fresh, p.edit.room = true, in
	return p
}

// ownerOf is whose object o is; an account is its own.
func ownerOf(o policies.Object) policies.AccountID {
	if o.Kind == policies.KindAccount {
		return policies.AccountID(o.ID)
	}
	return o.Owner
}

// add takes an object. The error is of one that was added before.
func (p *part) add(o policies.Object) error {
	p.batch = append(p.batch, o)
	if len(p.batch) < partBatch {
		return nil
	}
	if err := p.wait(); err != nil {
		return err
	}
	batch, work := p.batch, make(chan struct{})
	p.batch, p.spare, p.work = p.spare[:0], batch, work
	go func() { // ends by itself, whether or not anybody waits
		defer close(work)
		p.err = p.take(batch)
	}()
	return nil
}

func (p *part) wait() error {
	if p.work != nil {
		<-p.work
		p.work = nil
	}
	return p.err
}

// take puts objects whose place is ready.
func (p *part) take(objects []policies.Object) error {
	for _, o := range objects {
		put, err := p.put(o)
		if err != nil {
			return err
		}
		if !put {
			p.waiting = append(p.waiting, o)
		}
	}
	return nil
}

// put puts o, unless what it hangs on was not added yet.
func (p *part) put(o policies.Object) (done bool, err error) {
	a, ok := p.edit.account(ownerOf(o))
	switch {
	case !ok && o.Kind != policies.KindAccount:
		return false, nil
	case ok && o.Kind == policies.KindGrant:
		return p.putGrant(a, o)
	case ok && a.exists(o):
		return false, fault(o, "stands twice")
	}
	return true, p.edit.put(o)
}

// putGrant is put for what there is most of: it looks for nothing twice.
func (p *part) putGrant(a *Account, o policies.Object) (done bool, err error) {
	key, err := policies.ParseGrantKey(o.ID)
	if err != nil {
		return false, fault(o, "%v", err)
	}
	if m := p.edit.giving; m == nil || m.id.string() != key.Member {
		m, ok := a.members.get(key.Member)
		if !ok {
			return false, nil
		}
		p.edit.giveTo(m)
	}
	if !a.has(key.Resource) {
		return false, nil
	}
	added, err := p.edit.give(a, p.edit.giving, key.Resource, o)
	if err == nil && !added {
		err = fault(o, "stands twice")
	}
	return err == nil, err
}

// finish puts what is left, and verifies the accounts by themselves.
func (p *part) finish() error {
	if err := p.wait(); err != nil {
		return err
	}
	if err := p.take(p.batch); err != nil {
		return err
	}
	slices.SortStableFunc(p.waiting, func(x, y policies.Object) int {
		return cmp.Or(rank(x)-rank(y), cmp.Compare(x.Owner, y.Owner))
	})
	for _, o := range p.waiting {
		put, err := p.put(o)
		if err == nil && !put {
			err = p.edit.put(o) // says what is missing
		}
		if err != nil {
			return err
		}
	}
	p.batch, p.spare, p.waiting = nil, nil, nil
	p.edit.leave()
	for _, o := range p.edit.unsure {
		if err := p.edit.next.verify(o); err != nil {
			return err
		}
	}
	environments, groups := 0, 0
	for _, a := range p.edit.next.accounts.all() {
		for id := range a.groups.all() {
			if reason := a.verifyGroup(id); reason != "" {
				return &ObjectError{Kind: policies.KindGroup, Owner: a.ID(), ID: string(id), Reason: reason}
			}
		}
		environments += a.environments.len()
		groups += a.groups.len()
	}
	p.environments = make([]pair[policies.EnvironmentID, text[policies.AccountID]], 0, environments)
	p.groups = make([]pair[policies.GroupID, text[policies.AccountID]], 0, groups)
	for _, a := range p.edit.next.accounts.all() {
		p.environments = appendOwned(p.environments, a.environments, a.id)
		p.groups = appendOwned(p.groups, a.groups, a.id)
	}
	sortPairs(p.environments)
	sortPairs(p.groups)
	return nil
}

// appendOwned appends the keys of a table of owner's.
func appendOwned[K ~string, V any](
	to []pair[K, text[policies.AccountID]], of table[K, V], owner text[policies.AccountID],
) []pair[K, text[policies.AccountID]] {
	of.pieces(func(some []pair[K, V]) {
		for _, p := range some {
			to = append(to, pair[K, text[policies.AccountID]]{p.key, owner})
		}
	})
	return to
}

func sortPairs[K ~string, V any](pairs []pair[K, V]) {
	slices.SortFunc(pairs, func(x, y pair[K, V]) int { return cmp.Compare(x.key.string(), y.key.string()) })
}

// meet lets the members of the part's accounts be those of the whole state, which must
// have their accounts.
func (p *part) meet(whole *State) error {
	for _, a := range p.edit.next.accounts.all() {
		subjects := a.subjects.pairs()
		for i, s := range subjects {
			found, ok := whole.accounts.find(s.key.string())
			if !ok {
				return &ObjectError{
					Kind: policies.KindMember, Owner: a.ID(), ID: string(s.value.id.string()), Reason: fmt.Sprintf(noAccount, s.key.string()),
				}
			}
			s.value.account, subjects[i].key = found.key, found.key
		}
		a.subjects = tableOf(subjects)
	}
	return nil
}

// pack makes every table of an account that is being built as small as it can be, and
// gives the room that they had for those of the next one.
func (a *Account) pack() (room Account) {
	room.groups = a.groups.pack()
	room.environments = a.environments.pack()
	room.roles = a.roles.pack()
	if a.custom != nil {
		a.custom.policies.pack()
		a.custom.actions.pack()
	}
	room.members = a.members.pack()
	room.subjects = a.subjects.pack()
	for _, m := range a.members.all() {
		m.grants.environments.pack()
		m.grants.groups.pack()
	}
	return room
}

// exists tells whether the account has the object that o is about, no grant.
func (a *Account) exists(o policies.Object) bool {
	ok := false
	switch o.Kind {
	case policies.KindAccount:
		ok = true
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
	default:
	}
	return ok
}
