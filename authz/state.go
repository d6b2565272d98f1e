package authz

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/usher-authz/usher/policies"
)

// State is the whole platform at one revision: an immutable root. Any number of
// goroutines may read it.
type State struct{ header Header }

// Header names a state.
type Header struct {
	Platform string
	Revision policies.Revision
	Hash     policies.Hash
}

// Token is a service token as the state has it.
type Token struct {
	ID        string
	Scopes    []policies.Scope
	ExpiresAt *time.Time // nil: never
}

// Revision is the state's.
func (s *State) Revision() policies.Revision { return s.header.Revision }

// Hash is the chain hash of the state's revision.
func (s *State) Hash() policies.Hash { return s.header.Hash }

// Platform is the platform's id.
func (s *State) Platform() string { return s.header.Platform }

// Header is platform, revision and hash together.
func (s *State) Header() Header { return s.header }

// Policy implements [View].
func (s *State) Policy() *Policy { return nil }

// Known implements [View].
func (s *State) Known(account policies.AccountID) bool { return false }

// OwnerOf implements [View].
func (s *State) OwnerOf(resource policies.Resource) (policies.AccountID, bool) { return "", false }

// Account implements [View].
func (s *State) Account(owner policies.AccountID) (*Account, bool) { return nil, false }

// Accounts is how many accounts there are.
func (s *State) Accounts() int { return 0 }

// AccountIDs are all accounts, in order.
func (s *State) AccountIDs() iter.Seq[policies.AccountID] { return nil }

// Token finds the token whose secret has this hash (lower-case hex, see
// policies.HashToken). It tells nothing about expiry.
func (s *State) Token(hash string) (Token, bool) { return Token{}, false }

// Apply is the state after change, sharing all that the change did not touch.
// s stays as it is, whatever happens.
func (s *State) Apply(ctx context.Context, change policies.Change) (*State, error) {
	return nil, errors.New("not written yet")
}

// Objects is the whole platform, in one order: the policy in force, tokens, then
// per account the account, groups (parents first), environments, policies,
// roles, members, grants.
func (s *State) Objects() iter.Seq2[policies.Object, error] { return nil }

// AccountObjects is one account of it, nothing if there is no such account.
func (s *State) AccountObjects(owner policies.AccountID) iter.Seq2[policies.Object, error] {
	return nil
}

// Builder makes a [State] from objects in any order. It is for one goroutine.
type Builder struct{ header Header }

// NewBuilder begins a state.
func NewBuilder(header Header) *Builder { return &Builder{header: header} }

// Reuse lets the new state share p if its digest is that of the policy in force,
// instead of compiling it again.
func (b *Builder) Reuse(p *Policy) {}

// SetChanged tells which revision last touched owner's account, where that is
// known; else it is the header's revision.
func (b *Builder) SetChanged(owner policies.AccountID, changed policies.Revision) {}

// Add takes one object.
func (b *Builder) Add(o policies.Object) error { return nil }

// Build verifies all and gives the state. The builder is used up.
func (b *Builder) Build(ctx context.Context) (*State, error) {
	return nil, errors.New("not written yet")
}
