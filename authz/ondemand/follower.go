package ondemand

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
)

// compileTimeout bounds the compilation of a policy in force.
const compileTimeout = time.Minute

// follower turns the feed's words into roots. The feed's client calls it from one
// goroutine.
//
// A beginning may lie behind what it names: the notices up to there say which
// entries in Redis still hold. Until they are all here the root before stays in
// force, which is an older revision, but a whole one.
type follower struct {
	engine *Engine
	// next is the root that is being built, or in force once it has been published.
	next      *root
	published bool
}

var _ feed.NoticeSink = (*follower)(nil)

// Begin implements [feed.NoticeSink].
func (f *follower) Begin(b feed.Beginning) error {
	next := &root{
		revision: b.Revision, hash: b.Hash,
		index: newIndex(b.After, f.engine.options.IndexLimit), replaced: make(chan struct{}),
	}
	var source *policies.Object
	var err error
	for _, o := range b.Objects {
		if o.Kind == policies.KindPolicyInForce {
			source = &o
			continue
		}
		if next.tokens, err = next.tokens.with(o); err != nil {
			return err
		}
	}
	if source == nil {
		return errors.New("the feed begins without a policy in force")
	}
	if next.generation, err = f.generation(b.Platform, b.Revision.Epoch(), *source); err != nil {
		return err
	}
	f.next, f.published = next, false
	if b.After == b.Revision {
		f.publish(next)
	}
	return nil
}

// Notice implements [feed.NoticeSink]. What it touched is remembered before the
// root with its revision is in force.
func (f *follower) Notice(n feed.Notice) error {
	if f.next == nil {
		return errors.New("a notice came before a beginning")
	}
	names, err := touchedNames(n)
	if err != nil {
		return err
	}
	if !f.published {
		f.next.index.touch(n.Revision, names)
		if n.Revision == f.next.revision {
			f.publish(f.next)
		}
		return nil
	}
	next := *f.next
	next.revision, next.hash, next.replaced = n.Revision, n.Hash, make(chan struct{})
	source, epoch := policyObject(n), n.Revision.Epoch()
	for _, o := range n.Objects {
		if o.Kind == policies.KindToken {
			if next.tokens, err = next.tokens.with(o); err != nil {
				return err
			}
		}
	}
	if epoch != f.next.generation.epoch {
		// A new epoch begins anew: what was known before it may never have been.
		return fmt.Errorf("revision %d is of another epoch", n.Revision)
	}
	if source != nil {
		if next.generation, err = f.generation(next.generation.platform, epoch, *source); err != nil {
			return err
		}
	}
	next.index.touch(n.Revision, names)
	f.publish(&next)
	return nil
}

// Observe implements [feed.NoticeSink].
func (f *follower) Observe(t time.Time) { f.engine.Observe(t) }

func (f *follower) publish(r *root) {
	f.next, f.published = r, true
	f.engine.publish(r)
}

// policyObject is the policy in force within n, nil if n did not change it.
func policyObject(n feed.Notice) *policies.Object {
	for _, o := range n.Objects {
		if o.Kind == policies.KindPolicyInForce {
			return &o
		}
	}
	return nil
}

// generation is the one in force if nothing of it changed, else a new one.
func (f *follower) generation(platform string, epoch uint64, source policies.Object) (*generation, error) {
	var p policies.PolicyInForce
	if err := json.Unmarshal(source.Body, &p); err != nil {
		return nil, fmt.Errorf("decode the policy in force: %w", err)
	}
	var have *generation
	if r := f.engine.root.Load(); r != nil {
		have = r.generation
		if have.platform == platform && have.epoch == epoch && have.policy.Digest() == p.Digest {
			return have, nil
		}
	}
	next := &generation{id: f.engine.generations.Add(1), platform: platform, epoch: epoch, prefix: keyPrefix(platform, epoch, p.Digest)}
	if have != nil && have.policy.Digest() == p.Digest {
		next.policy = have.policy
		return next, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), compileTimeout)
	defer cancel()
	var err error
	if next.policy, err = authz.NewPolicy(ctx, p); err != nil {
		return nil, fmt.Errorf("compile the policy in force: %w", err)
	}
	return next, nil
}

// touchedNames is what n touched.
func touchedNames(n feed.Notice) ([]touchable, error) {
	names := make([]touchable, 0, len(n.Owners)+len(n.IDs)+len(n.Subjects))
	for _, a := range n.Owners {
		names = append(names, touchable{kind: kindAccount, id: string(a)})
	}
	for _, a := range n.Subjects {
		names = append(names, touchable{kind: kindSubject, id: string(a)})
	}
	for _, id := range n.IDs {
		typ, rest, ok := strings.Cut(id, ":")
		if !ok {
			return nil, fmt.Errorf("revision %d touched %q, which is not TYPE:ID", n.Revision, id)
		}
		names = append(names, touchable{kind: kindOwner, typ: policies.ResourceType(typ), id: rest})
	}
	return names, nil
}
