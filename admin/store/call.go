package store

import (
	"time"

	"github.com/google/uuid"

	"github.com/usher-authz/usher/policies"
)

// Actor is who makes a write, as the change log keeps it.
type Actor struct {
	// Token is the id of the service token that was presented, TokenName its name
	// at that time, found by the store if empty; both empty for an account that came
	// by itself.
	Token, TokenName string
	// Account is the account that acts: the one acted as, or the one that signed
	// in. Empty for a service that acts as nobody.
	Account policies.AccountID
	// Address is the network address that the request came from.
	Address string
	// RequestID names the request; made by the store if empty.
	RequestID string
	// Local says that the write was made by a command on the database itself.
	Local bool
}

// Call is what comes with every write beside its values.
type Call struct {
	Actor
	// Member is the account that makes the write as a member of the owner that it is
	// about: it must have the rights to it, and is held against the no-gain rule.
	// Empty for who may everything: services and the owner.
	Member policies.AccountID
	// DryRun does all but the write. The result has a Trial, and nothing is kept for
	// a repetition.
	DryRun bool
	// IfMatch is the ETag that the object must still have: "" for whatever it is,
	// "*" for any that exists.
	IfMatch string
	// IdempotencyKey makes a repetition by the same actor answer as the first time;
	// RequestHash tells a repetition from another request under the same key, which
	// is an [IdempotencyError].
	IdempotencyKey, RequestHash string
	// IdempotencyCaller is whose key it is, where the actor does not say.
	IdempotencyCaller string
}

// identified is the call by an id, which is made here if the request had none.
func (c Call) identified() Call {
	if c.RequestID == "" {
		c.RequestID = uuid.NewString()
	}
	return c
}

// Result is the outcome of a write.
type Result[T any] struct {
	// Value is the object after the write.
	Value T
	// ETag is the object's, quoted as the header has it; empty if there is none (a
	// deletion).
	ETag string
	// Created says that the object is new.
	Created bool
	// Changed says that there was something to change. If not, nothing was written.
	Changed bool
	// Replayed says that this is the kept answer of an earlier call with the same
	// idempotency key.
	Replayed bool
	// Revision is the one at which the write took effect, the present one if nothing
	// was changed.
	Revision policies.Revision
	// Trial is what a dry run would have done; nil if nothing, and without DryRun.
	Trial *Trial `json:"-"`
}

// Item is an object with what is known of it beside its value.
type Item[T any] struct {
	Value T
	// ETag changes with the value; quoted as the header has it.
	ETag string
	// Revision is the last one that touched the object.
	Revision policies.Revision
}

// Page asks for a part of a list. Limit is clipped to [MaxPage]; 0 means
// [DefaultPage]. Cursor is the NextCursor of the page before, empty for the first.
type Page struct {
	Limit  int
	Cursor string
}

// List is one page. NextCursor is empty on the last.
type List[T any] struct {
	Items      []T
	NextCursor string
}

// The sizes of pages.
const (
	DefaultPage = policies.DefaultPageLimit
	MaxPage     = policies.MaxPageLimit
)

// Header says of which platform and revision a set of objects is.
type Header struct {
	Platform string
	Revision policies.Revision
	Hash     policies.Hash
	Time     time.Time // of the revision
}
