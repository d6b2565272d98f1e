package authz

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Header names a state.
type Header struct {
	Platform string
	Revision policies.Revision
	Hash     policies.Hash // the chain hash of the revision
}

// State is the whole platform at one revision: an immutable root. Any number of
// goroutines may read it.
type State struct {
	header  Header
	policy  *Policy
	touched touched // by the change that led here

	accounts     table[policies.AccountID, *Account]
	environments table[policies.EnvironmentID, text[policies.AccountID]] // whose
	groups       table[policies.GroupID, text[policies.AccountID]]       // whose
	tokens       table[string, *Token]                                   // by id
	tokenHashes  table[string, *Token]                                   // by hash
}

var _ View = (*State)(nil)

// Token is a service token as the state has it. Do not change it.
type Token struct {
	ID        string
	Hash      string // lower-case hex, see policies.HashToken
	Scopes    []policies.Scope
	ExpiresAt *time.Time // nil: never
}

// Header is platform, revision and hash together.
func (s *State) Header() Header { return s.header }

// Revision is the state's.
func (s *State) Revision() policies.Revision { return s.header.Revision }

// Hash is the chain hash of the state's revision.
func (s *State) Hash() policies.Hash { return s.header.Hash }

// Platform is the platform's id.
func (s *State) Platform() string { return s.header.Platform }

// Policy implements [View]. It is never nil.
func (s *State) Policy() *Policy { return s.policy }

// Known implements [View].
func (s *State) Known(account policies.AccountID) bool {
	_, ok := s.accounts.get(account)
	return ok
}

// OwnerOf implements [View].
func (s *State) OwnerOf(resource policies.Resource) (policies.AccountID, bool) {
	switch resource.Type {
	case policies.TypeEnvironment:
		return whose(s.environments.get(policies.EnvironmentID(resource.ID)))
	case policies.TypeGroup:
		return whose(s.groups.get(policies.GroupID(resource.ID)))
	case policies.TypeEnvironments, policies.TypeGroups, policies.TypeAccount:
		owner := policies.AccountID(resource.ID)
		return owner, s.Known(owner)
	default:
		return "", false
	}
}

func whose(owner text[policies.AccountID], ok bool) (policies.AccountID, bool) {
	return owner.string(), ok
}

// Account implements [View].
func (s *State) Account(owner policies.AccountID) (*Account, bool) { return s.accounts.get(owner) }

// Accounts is how many accounts there are.
func (s *State) Accounts() int { return s.accounts.len() }

// AccountIDs are all accounts, in the order of their bytes.
func (s *State) AccountIDs() iter.Seq[policies.AccountID] {
	return func(yield func(policies.AccountID) bool) {
		for id := range s.accounts.all() {
			if !yield(id) {
				return
			}
		}
	}
}

// Token finds the token whose secret has this hash (policies.HashToken). It says
// nothing about expiry and scopes: the caller looks at them.
func (s *State) Token(hash string) (Token, bool) {
	found, ok := s.tokenHashes.get(hash)
	if !ok {
		return Token{}, false
	}
	return *found, true
}

// Apply is the state after change. It shares all that the change did not touch,
// and costs what the change's objects cost, however many accounts there are and
// however much the touched accounts hold. The order of objects in the change does
// not matter. s stays as it is, whatever happens.
//
// The change must follow s in the chain ([policies.Change.Follows]); objects that
// contradict each other or the state are an [ObjectError].
func (s *State) Apply(ctx context.Context, change policies.Change) (*State, error) {
	if change.Revision <= s.header.Revision {
		return nil, &RollbackError{Have: s.header.Revision, Got: change.Revision}
	}
	if err := change.Follows(s.header.Revision, s.header.Hash); err != nil {
		return nil, err
	}
	objects, err := change.DecodeObjects()
	if err != nil {
		return nil, err
	}
	next := s.fork()
	next.header.Revision, next.header.Hash = change.Revision, change.Hash
	if err := next.take(ctx, s.policy, objects); err != nil {
		return nil, err
	}
	return next, nil
}

// take puts the objects of its revision into a state that was forked from one with
// the policy have.
func (s *State) take(ctx context.Context, have *Policy, objects []policies.Object) (err error) {
	s.touched = touchedBy(objects)
	for _, o := range objects {
		if o.Kind == policies.KindPolicyInForce && !o.Deleted() {
			if s.policy, err = compileObject(ctx, o, have); err != nil {
				return err
			}
		}
	}
	if err := newEdit(s).apply(objects); err != nil {
		return fmt.Errorf("apply revision %d: %w", s.header.Revision, err)
	}
	return nil
}

// touched are the accounts that a change is about: owners of its objects, and accounts
// among them.
type touched struct {
	accounts [2]policies.AccountID // "" is none
	more     bool                  // than there is room for
}

func touchedBy(objects []policies.Object) (t touched) {
	for _, o := range objects {
		account := ownerOf(o)
		switch {
		case account == "" || account == t.accounts[0] || account == t.accounts[1]:
		case t.accounts[0] == "":
			t.accounts[0] = account
		case t.accounts[1] == "":
			t.accounts[1] = account
		default:
			t.more = true
		}
	}
	return t
}

// has tells whether the change may be about an account.
func (t *touched) has(account policies.AccountID) bool {
	return t.more || t.accounts[0] == account || t.accounts[1] == account
}

// fork gives a state to edit, while others read s.
func (s *State) fork() *State {
	next := *s
	next.accounts = s.accounts.fork()
	next.environments = s.environments.fork()
	next.groups = s.groups.fork()
	next.tokens = s.tokens.fork()
	next.tokenHashes = s.tokenHashes.fork()
	return &next
}

// compileObject compiles the policy in force that o holds, or gives have, if that
// is the same.
func compileObject(ctx context.Context, o policies.Object, have *Policy) (*Policy, error) {
	body, err := decodeBody[policies.PolicyInForce](o)
	if err != nil {
		return nil, err
	}
	if have != nil && have.Digest() == body.Digest {
		return have, nil
	}
	return NewPolicy(ctx, body)
}
