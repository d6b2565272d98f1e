package news

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const (
	// maxEntries is how many entries of the log a bundle is compared by.
	maxEntries = 100_000
	readBatch  = 2_000
)

// step is one revision of a bundle.
type step struct {
	revision policies.Revision
	by       policies.AccountID
	objects  []policies.Object
}

// bundle is a run of changes in an account.
type bundle struct {
	before *authz.State // nothing but the owner's account
	steps  []step
	last   policies.Revision
	tooBig bool
	// names are those that environments and groups had before they were deleted.
	names map[policies.Resource]string
	// was is what each object was before the first entry about it, accounts are those
	// that records name.
	was      map[key]policies.Object
	accounts map[policies.AccountID]bool
	ended    bool
}

// states are the account before each step, and after the last.
func (b *bundle) states(ctx context.Context) ([]*authz.State, error) {
	states := []*authz.State{b.before}
	for i, s := range b.steps {
		next, err := states[i].With(ctx, s.objects)
		if err != nil {
			return nil, err
		}
		states = append(states, next)
	}
	return states, nil
}

// authors are all who made a step, each once.
func (b *bundle) authors() []policies.AccountID {
	var all []policies.AccountID
	for _, s := range b.steps {
		if !slices.Contains(all, s.by) {
			all = append(all, s.by)
		}
	}
	return all
}

// key names an object of the account.
type key struct {
	kind policies.Kind
	id   string
}

// read is the bundle of owner that begins with the revision first, and ends with what
// nobody is told of, or with the state.
func (t *Teller) read(ctx context.Context, state *authz.State, owner policies.AccountID, first policies.Revision) (bundle, error) {
	b := bundle{
		last: state.Revision(), names: map[policies.Resource]string{}, was: map[key]policies.Object{},
		accounts: map[policies.AccountID]bool{owner: true},
	}
	at, count := store.Position{Revision: first - 1, Ordinal: math.MaxInt32}, 0
	for more := true; more; {
		entries, err := t.log.EntriesAfter(ctx, store.AuditFilter{Owner: owner}, at, readBatch)
		if err != nil {
			return b, err
		}
		more = len(entries) == readBatch
		for _, e := range entries {
			if e.Revision > state.Revision() {
				more = false
				break
			}
			at = store.Position{Revision: e.Revision, Ordinal: e.Ordinal}
			if count++; count > t.entries {
				b.tooBig = true
				return b, nil
			}
			if err := b.take(e); err != nil {
				return b, err
			}
		}
	}
	var err error
	b.before, err = b.undo(ctx, state, owner)
	return b, err
}

// take takes an entry down: what its object was, and, as long as the bundle goes on,
// what it is.
func (b *bundle) take(e store.Entry) error {
	if !b.ended && e.Quiet() {
		b.ended, b.last = true, e.Revision-1
	}
	before, after, err := objects(e)
	if err != nil || before == nil {
		return err
	}
	b.accounts[memberAccount(*before)], b.accounts[memberAccount(*after)] = true, true
	if k := (key{e.Kind, e.ID}); b.was[k].Kind == "" {
		b.was[k] = *before
	}
	b.remember(e)
	if b.ended {
		return nil
	}
	if n := len(b.steps); n == 0 || b.steps[n-1].revision != e.Revision {
		b.steps = append(b.steps, step{revision: e.Revision, by: e.Actor.Account})
	}
	now := &b.steps[len(b.steps)-1]
	now.objects = append(now.objects, *after)
	return nil
}

// remember keeps the name of what an entry deletes.
func (b *bundle) remember(e store.Entry) {
	if string(e.After) != "null" || e.Kind != policies.KindEnvironment && e.Kind != policies.KindGroup {
		return
	}
	var had struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(e.Before, &had) == nil {
		b.names[policies.Resource{Type: policies.ResourceType(e.Kind), ID: e.ID}] = had.Name
	}
}

// undo is the account as it was, with nothing around it but the accounts of its members.
func (b *bundle) undo(ctx context.Context, state *authz.State, owner policies.AccountID) (*authz.State, error) {
	build := authz.NewBuilder(state.Header())
	build.Reuse(state.Policy())
	policy, err := policies.NewObject(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), state.Policy().Source())
	if err != nil {
		return nil, err
	}
	if err := build.Add(policy); err != nil {
		return nil, err
	}
	for o, err := range state.AccountObjects(owner) {
		if err != nil {
			return nil, err
		}
		b.accounts[memberAccount(o)] = true
		if _, changed := b.was[key{o.Kind, o.ID}]; changed || o.Kind == policies.KindAccount {
			continue
		}
		if err := build.Add(o); err != nil {
			return nil, err
		}
	}
	for _, o := range b.was {
		if !o.Deleted() {
			if err := build.Add(o); err != nil {
				return nil, err
			}
		}
	}
	delete(b.accounts, "")
	for id := range b.accounts {
		o, err := policies.NewObject(policies.KindAccount, "", string(id), policies.AccountBody{})
		if err != nil {
			return nil, err
		}
		if err := build.Add(o); err != nil {
			return nil, err
		}
	}
	return build.Build(ctx)
}

// memberAccount is whose record an object is; of nobody, if it is none.
func memberAccount(o policies.Object) policies.AccountID {
	var body policies.MemberBody
	if o.Kind != policies.KindMember || o.Deleted() || json.Unmarshal(o.Body, &body) != nil || body.Account == nil {
		return ""
	}
	return *body.Account
}

// objects are what an entry says that its object was, and is; nil for what is not in an
// account.
func objects(e store.Entry) (before, after *policies.Object, err error) {
	if before, err = object(e, e.Before); before == nil || err != nil {
		return nil, nil, err
	}
	after, err = object(e, e.After)
	return before, after, err
}

func object(e store.Entry, text jsontext.Value) (*policies.Object, error) {
	var body any
	switch e.Kind {
	case policies.KindGroup:
		body = &policies.GroupBody{}
	case policies.KindEnvironment:
		body = &policies.EnvironmentBody{}
	case policies.KindPolicy:
		body = &policies.PolicyBody{}
	case policies.KindRole:
		body = &policies.RoleBody{}
	case policies.KindMember:
		body = &policies.MemberBody{}
	case policies.KindGrant:
		body = &policies.GrantBody{}
	default:
		return nil, nil
	}
	if string(text) == "null" {
		body = nil
	} else if err := json.Unmarshal(text, body); err != nil { // what the audit shows beside is left out
		return nil, fmt.Errorf("decode %s %q of owner %q: %w", e.Kind, e.ID, e.Owner, err)
	}
	o, err := policies.NewObject(e.Kind, e.Owner, e.ID, body)
	return &o, err
}
