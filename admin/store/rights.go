package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const (
	sqlChangesUpTo = `select revision, at, objects, audit_hash, hash from revisions where revision > $1 and revision <= $2 order by revision limit $3`
	// maxBehind is how many changes a write applies to the engine's state at most.
	// The engine is behind by those of the last milliseconds.
	maxBehind = 2_000
)

var errBehind = errors.New("the platform's state in this process is not up to date yet")

// before is the platform as the write finds it: the engine's state and what the log
// has since, read by the transaction itself. The chain of hashes says that they
// belong together.
func (tx *tx) before() (*authz.State, error) {
	if tx.found != nil {
		return tx.found, nil
	}
	var state *authz.State
	if tx.s.state != nil {
		state = tx.s.state()
	}
	switch {
	case state == nil || state.Platform() != tx.head.Platform || state.Revision() > tx.head.Revision:
		return nil, &UnavailableError{Err: errBehind}
	case state.Revision() < tx.head.Revision:
		since := read[changeRow](tx, sqlChangesUpTo, state.Revision(), tx.head.Revision, maxBehind+1)
		if err := tx.flush(); err != nil {
			return nil, err
		}
		if len(since.rows) > maxBehind {
			return nil, &UnavailableError{Err: errBehind}
		}
		for _, row := range since.rows {
			next, err := state.Apply(tx.ctx, row.change())
			if err != nil {
				return nil, &UnavailableError{Err: fmt.Errorf("%w: %w", errBehind, err)}
			}
			state = next
		}
	}
	if state.Revision() != tx.head.Revision || !slices.Equal(tx.head.Hash, hashBytes(state.Hash())) {
		return nil, &UnavailableError{Err: errBehind}
	}
	tx.found = state
	return state, nil
}

func hashBytes(h policies.Hash) []byte { return h[:] }

// byMember tells whether the write is made by a member with its rights, and not by
// the owner or a service.
func (tx *tx) byMember() bool { return tx.call.Member != "" }

// may tells whether the writer has a right; who is no member has all.
func (tx *tx) may(need rights.Need) (bool, error) {
	if !tx.byMember() {
		return true, nil
	}
	state, err := tx.before()
	if err != nil {
		return false, err
	}
	return rights.May(tx.ctx, state, tx.now, tx.call.Member, need)
}

// require refuses a write by a member that lacks one of the rights that it needs, or
// of which nothing is known that it needs.
func (tx *tx) require(owner policies.AccountID, needs []rights.Need) error {
	if !tx.byMember() {
		return nil
	}
	tx.owner = owner
	for _, need := range needs {
		ok, err := tx.may(need)
		if err != nil {
			return err
		}
		if !ok {
			return rights.Missing(need.Action)
		}
	}
	if len(needs) == 0 {
		return errNoRight
	}
	tx.allowed = true
	return nil
}

// requireOne refuses a write by a member that has none of the rights.
func (tx *tx) requireOne(owner policies.AccountID, needs []rights.Need) error {
	if !tx.byMember() {
		return nil
	}
	tx.owner = owner
	for _, need := range needs {
		ok, err := tx.may(need)
		if err != nil {
			return err
		}
		if ok {
			tx.allowed = true
			return nil
		}
	}
	return errNoRight
}

var errNoRight = &policies.ForbiddenError{Reason: "A member may not do this, or may not do it here."}

// sees tells whether the writer may know of members that it does not name: of the
// state of a record, for one.
func (tx *tx) sees(owner policies.AccountID) (bool, error) {
	return tx.may(rights.OnAccount(rights.GetMembers, owner)[0])
}

// shares tells whether a resource of owner is shared with the writer; with who is no
// member all are.
func (tx *tx) shares(owner policies.AccountID, resource policies.Resource) (bool, error) {
	if !tx.byMember() {
		return true, nil
	}
	state, err := tx.before()
	if err != nil {
		return false, err
	}
	account, ok := state.Account(owner)
	if !ok {
		return false, nil
	}
	m, ok := account.MemberOf(tx.call.Member)
	if !ok {
		return false, nil
	}
	return difference.NewAsker(state, owner).Shared(tx.ctx, tx.now, m, resource)
}

// hiddenGroups are those of groups that are not shared with the writer: it cannot name
// them, and does not mean them.
func (tx *tx) hiddenGroups(owner policies.AccountID, groups ...policies.GroupID) ([]policies.GroupID, error) {
	var hidden []policies.GroupID
	for _, g := range groups {
		ok, err := tx.shares(owner, policies.Resource{Type: policies.TypeGroup, ID: string(g)})
		if err != nil {
			return nil, err
		}
		if !ok {
			hidden = append(hidden, g)
		}
	}
	return hidden, nil
}

// Trial is what a write would have done, and did not.
type Trial struct {
	difference.Change

	// New are the members that the write would have made, whose ids mean nothing.
	New []policies.CollaborationID
}

// settle holds a write by a member against the no-gain rule, and takes down what a
// dry run would have changed.
func (tx *tx) settle(r *record) error {
	if tx.byMember() && !tx.allowed {
		return errNoRight // nobody said which right it needs
	}
	if !tx.byMember() && !tx.call.DryRun || r == nil {
		return nil
	}
	before, err := tx.before()
	if err != nil {
		return err
	}
	after := before
	if len(r.touched) > 0 {
		if after, err = before.With(tx.ctx, r.touched); err != nil {
			return fmt.Errorf("tell what the write would do: %w", err)
		}
	}
	if tx.byMember() && len(r.touched) > 0 {
		if err := (rights.Write{
			Before: before, After: after, Objects: r.touched, Owner: tx.owner, Account: tx.call.Member, Now: tx.now, Removing: tx.removing,
		}).Check(tx.ctx); err != nil {
			return err
		}
	}
	if tx.call.DryRun {
		tx.trial = &Trial{Change: difference.Change{Before: before, After: after, Objects: r.touched}, New: r.newMembers()}
	}
	return nil
}

// newMembers are the members that a record makes.
func (r *record) newMembers() []policies.CollaborationID {
	var made []policies.CollaborationID
	for _, e := range r.entries {
		if e.kind == policies.KindMember && e.before == nil {
			made = append(made, policies.CollaborationID(e.id))
		}
	}
	return made
}

// sqlConstraintsNow lets a dry run meet those that are held at the commit.
const sqlConstraintsNow = `set constraints all immediate`

// try ends a dry run: the changes meet the constraints, and are rolled back with the
// transaction.
func (tx *tx) try() (outcome, error) {
	tx.queue.Queue(sqlConstraintsNow)
	if err := tx.send(tx.ctx); err != nil {
		return outcome{}, err
	}
	return outcome{revision: tx.head.Revision, trial: tx.trial}, nil
}
