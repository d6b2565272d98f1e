package mail

import (
	"context"
	"fmt"
	"time"
)

// Letter is what a mail says, and to whom.
type Letter struct {
	// Kind chooses the words: one of [Kinds].
	Kind string
	// To is the address, ToName the name of whoever has it; may be empty.
	To, ToName string
	// Owner and Member are the two sides, By who made the change, as people call them.
	Owner, Member, By string
	// Items are what is shared, or, in a letter of the kind changed, what changed of it;
	// More is how many there are beside.
	Items []Item
	More  int
	// Link opens the invitation, until Ends; empty in other mails.
	Link string
	Ends time.Time
}

// Item is one thing that is shared, with the names of its roles.
type Item struct {
	Name  string
	Roles []string
	// Was are the names of the roles before a change.
	Was []string
	// Change is what changed; empty in letters that only say what is shared.
	Change Change
}

// Change is what changed of an [Item].
type Change string

// What can change: it is shared now, or not any more; by other roles; or the roles are
// the same and allow more, less, or something else.
const (
	ChangeNew   Change = "new"
	ChangeEnded Change = "ended"
	ChangeRoles Change = "roles"
	ChangeMore  Change = "more"
	ChangeLess  Change = "less"
	ChangeOther Change = "other"
)

// Kinds is every kind of letter: the templates must have words for each.
var Kinds = []string{"invited", "resent", "accepted", "rejected", "left", "suspended", "activated", "removed", "changed"}

// Message is a mail as it is sent. ID is its Message-ID, without the domain: two with
// one are the same mail.
type Message struct {
	ID                  string
	To, ToName, Subject string
	Text, HTML          string
}

// Sender takes messages away. Its methods may be called from any number of
// goroutines.
type Sender interface {
	// Send returns nil once somebody else is answerable for the message. A
	// [RefusedError] says that trying again is of no use.
	Send(ctx context.Context, m Message) error
}

// RefusedError says that the address is refused for good.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return fmt.Sprintf("the address is refused: %v", e.Err) }

// Unwrap is the server's answer.
func (e *RefusedError) Unwrap() error { return e.Err }
