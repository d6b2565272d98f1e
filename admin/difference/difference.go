package difference

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Change is a change that was made, or would be.
type Change struct {
	Before, After *authz.State
	// Objects are those that the change touches, of any number of owners.
	Objects []policies.Object
}

// Options say how a change is looked at.
type Options struct {
	// Now is the time of the change.
	Now time.Time
	// Later compares at each later instant too at which a grant ends that can count.
	Later bool
	// Also gives further instants after Now for the pairs of a resource; nil: none.
	Also func(owner policies.AccountID, resource policies.Resource) []time.Time
	// As is the status that a record is taken to have; nil: its own, so that only
	// active members hold anything.
	As func(m authz.Member) policies.Status
	// Only chooses the members that are looked at; nil: all.
	Only func(policies.CollaborationID) bool
	// Limit is how many pairs are looked at before the change is a [LimitError];
	// [DefaultLimit] if 0.
	Limit int
}

// DefaultLimit is how many pairs of member and resource are compared at most.
const DefaultLimit = 2_000_000

// LimitError says that a change touches more pairs than are compared.
type LimitError struct{ Limit int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the change touches more than %d pairs of member and resource", e.Limit)
}

// Active is the status of everybody as if every collaboration were active.
func Active(authz.Member) policies.Status { return policies.StatusActive }

// Accepted is the status that a record has, or will have once its invitation is
// accepted.
func Accepted(m authz.Member) policies.Status {
	if m.Status() == policies.StatusPending {
		return policies.StatusActive
	}
	return m.Status()
}

// Difference is what one member gains and loses on one resource.
type Difference struct {
	Owner  policies.AccountID
	Member policies.CollaborationID
	// Account is the member's after the change, or, if the record is gone, before it;
	// empty while no account has the address.
	Account  policies.AccountID
	Resource policies.Resource
	// At is when: Options.Now, or a later instant.
	At time.Time
	// Gained and Lost are sorted; not both are empty. Do not change them.
	Gained, Lost Actions
	// Was and Is are the names of the roles that counted, and that count now.
	Was, Is []string
}

// Each calls yield for every difference, by owner, member and resource in order, and
// ends with its error if it has one. Errors beside: [LimitError], that of ctx, and
// those of Rego.
func (c Change) Each(ctx context.Context, o Options, yield func(Difference) error) error {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.As == nil {
		o.As = authz.Member.Status
	}
	left := o.Limit
	for _, owner := range owners(c.Objects) {
		at := &comparison{Options: o, owner: owner, touched: touchedOf(owner, c), left: &left, differences: map[[2]*answer]*pair{}}
		at.before.Asker = NewAsker(c.Before, owner)
		at.after.Asker = NewAsker(c.After, owner)
		if !at.touched.meaning {
			// The same shape means the same before and after.
			at.after.answers = at.before.answers
		}
		if err := at.each(ctx, yield); err != nil {
			return err
		}
	}
	return nil
}

func owners(objects []policies.Object) []policies.AccountID {
	var all []policies.AccountID
	for _, o := range objects {
		if o.Owner != "" {
			all = append(all, o.Owner)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// comparison is the work on one owner.
type comparison struct {
	Options

	owner         policies.AccountID
	touched       touched
	before, after side
	left          *int // pairs that may still be looked at
	differences   map[[2]*answer]*pair
}

type pair struct{ gained, lost Actions }

func (c *comparison) each(ctx context.Context, yield func(Difference) error) error {
	for _, id := range c.members() {
		if c.Only != nil && !c.Only(id) {
			continue
		}
		resources, err := c.resources(id)
		if err != nil {
			return err
		}
		for _, r := range resources {
			if err := c.compare(ctx, id, r, yield); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare compares one pair at each instant.
func (c *comparison) compare(ctx context.Context, id policies.CollaborationID, r policies.Resource, yield func(Difference) error) error {
	was, _ := c.before.member(id)
	is, there := c.after.member(id)
	instants := []time.Time{c.Now}
	if c.Later {
		instants = append(instants, c.before.ends(c.Now, id, r)...)
		instants = append(instants, c.after.ends(c.Now, id, r)...)
		if c.Also != nil {
			instants = append(instants, c.Also(c.owner, r)...)
		}
		slices.SortFunc(instants, time.Time.Compare)
		instants = slices.CompactFunc(instants, time.Time.Equal)
	}
	for _, at := range instants {
		if err := ctx.Err(); err != nil {
			return err
		}
		held, err := c.before.holds(ctx, at, id, c.As, r)
		if err != nil {
			return err
		}
		holds, err := c.after.holds(ctx, at, id, c.As, r)
		if err != nil {
			return err
		}
		found := c.differ(held, holds)
		if len(found.gained)+len(found.lost) == 0 {
			continue
		}
		d := Difference{Owner: c.owner, Member: id, Resource: r, At: at, Gained: found.gained, Lost: found.lost, Was: held.roles, Is: holds.roles}
		if there {
			d.Account = is.Account()
		} else {
			d.Account = was.Account()
		}
		if err := yield(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) differ(before, after *answer) *pair {
	key := [2]*answer{before, after}
	found, ok := c.differences[key]
	if !ok {
		found = &pair{gained: after.actions.without(before.actions), lost: before.actions.without(after.actions)}
		c.differences[key] = found
	}
	return found
}
