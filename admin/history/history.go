// Package history rebuilds what an account was at a revision, out of the log, and tells
// what differs between two. It reads what the account's own changes were and nothing
// else, so that it costs what happened there, however long the log of the platform is.
package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// platform is the owner of what belongs to the platform, in the log.
const platform policies.AccountID = ""

// Log is the change log.
type Log interface {
	// ChangesOf are the objects of owner that the revisions after one, up to another,
	// touched: each as the last of them left it.
	ChangesOf(ctx context.Context, owner policies.AccountID, after, last policies.Revision) ([]policies.Object, error)
}

// Reader rebuilds states; Policy, which may be nil, is not compiled again where it was in
// force.
type Reader struct {
	Log    Log
	Policy *authz.Policy
}

// errNoPolicy says that no policy was in force yet.
var errNoPolicy = errors.New("no policy was in force at that revision")

// Between tells what members of owner gained and lost on its resources from one
// revision to a later one, as of a time, by member and resource in order. Errors are those
// of the log, of [difference.Change.Each], and yield's.
func (r Reader) Between(
	ctx context.Context, owner policies.AccountID, from, to policies.Revision, now time.Time, yield func(difference.Difference) error,
) error {
	after, err := r.at(ctx, owner, "", to, policies.Object{})
	if err != nil {
		return err
	}
	policy, err := policies.NewObject(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), after.Policy().Source())
	if err != nil {
		return err
	}
	before, err := r.at(ctx, owner, "", from, policy)
	if err != nil {
		return err
	}
	touched, err := r.Log.ChangesOf(ctx, owner, from, to)
	if err != nil {
		return err
	}
	if before.Policy().Digest() != after.Policy().Digest() { // it may mean something everywhere
		for _, s := range []*authz.State{before, after} {
			for o, err := range s.AccountObjects(owner) {
				if err != nil {
					return err
				}
				touched = append(touched, o)
			}
		}
	}
	return difference.Change{Before: before, After: after, Objects: touched}.Each(ctx, difference.Options{Now: now}, yield)
}

// At is the state at a revision as far as a question by subject on a resource of owner
// rests on it: nothing of other accounts is there. An empty owner is that of nothing.
// Errors are those of the log.
func (r Reader) At(ctx context.Context, owner, subject policies.AccountID, revision policies.Revision) (*authz.State, error) {
	return r.at(ctx, owner, subject, revision, policies.Object{})
}

// at is the state at a revision, with no other account's objects, but that the subject is
// known if it was there; the fallback is the policy for when none was in force.
func (r Reader) at(
	ctx context.Context, owner, subject policies.AccountID, revision policies.Revision, fallback policies.Object,
) (*authz.State, error) {
	b := authz.NewBuilder(authz.Header{Revision: revision})
	b.Reuse(r.Policy)
	policy := fallback
	known := map[policies.AccountID]bool{owner: true}
	all := []policies.AccountID{platform}
	if owner != platform {
		all = append(all, owner)
	}
	for _, whose := range all {
		objects, err := r.Log.ChangesOf(ctx, whose, 0, revision)
		if err != nil {
			return nil, fmt.Errorf("read the log up to revision %d: %w", revision, err)
		}
		for _, o := range objects {
			switch {
			case o.Kind == policies.KindPolicyInForce:
				policy = o
				continue
			case o.Deleted(), o.Kind == policies.KindToken:
				continue
			case o.Kind == policies.KindMember:
				if err := addAccount(b, o, known); err != nil {
					return nil, err
				}
			}
			if err := b.Add(o); err != nil {
				return nil, err
			}
		}
	}
	if !known[subject] && subject != "" {
		if err := r.addSubject(ctx, b, subject, revision); err != nil {
			return nil, err
		}
	}
	if policy.Kind == "" {
		return nil, errNoPolicy
	}
	if err := b.Add(policy); err != nil {
		return nil, err
	}
	return b.Build(ctx)
}

// addSubject adds the account that asks, if it was there.
func (r Reader) addSubject(ctx context.Context, b *authz.Builder, subject policies.AccountID, revision policies.Revision) error {
	objects, err := r.Log.ChangesOf(ctx, subject, 0, revision)
	if err != nil {
		return fmt.Errorf("read the log up to revision %d: %w", revision, err)
	}
	for _, o := range objects {
		if o.Kind == policies.KindAccount && policies.AccountID(o.ID) == subject && !o.Deleted() {
			return b.Add(o)
		}
	}
	return nil
}

// addAccount adds the account of a member: it was there, or the record would not
// have named it.
func addAccount(b *authz.Builder, member policies.Object, known map[policies.AccountID]bool) error {
	var body policies.MemberBody
	if err := json.Unmarshal(member.Body, &body); err != nil {
		return fmt.Errorf("decode member %q of owner %q: %w", member.ID, member.Owner, err)
	}
	if body.Account == nil || known[*body.Account] {
		return nil
	}
	known[*body.Account] = true
	account, err := policies.NewObject(policies.KindAccount, "", string(*body.Account), policies.AccountBody{})
	if err != nil {
		return err
	}
	return b.Add(account)
}
