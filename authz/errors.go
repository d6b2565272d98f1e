package authz

import (
	"fmt"

	"github.com/usher-authz/usher/policies"
)

// The kinds of error of the engine. Find them with errors.As; none of them is
// ever an answer to a check.
type (
	// RevisionError says that the revision asked for did not arrive within the
	// wait. The caller answers 503 with Retry-After, never with older data.
	RevisionError struct{ Want, Have policies.Revision }

	// PlaceError says that the next page of a search cannot be of the revision of
	// the first any more. The search must begin anew.
	PlaceError struct {
		Revision policies.Revision
		Reason   string
	}

	// UnavailableError says that there is no state to answer from: none has
	// arrived yet, or what answers need cannot be reached. Cause may be nil.
	UnavailableError struct {
		Reason string
		Cause  error
	}

	// RollbackError refuses a state that is older than the one in force.
	RollbackError struct{ Have, Got policies.Revision }

	// PlatformError refuses a state or a change of another platform.
	PlatformError struct{ Have, Got string }

	// ObjectError is an object of a change or of a snapshot that contradicts the
	// rest: a grant of an unknown member, an environment of another owner. The
	// state it was meant for stays as it was.
	ObjectError struct {
		Kind   policies.Kind
		Owner  policies.AccountID
		ID     string
		Reason string
	}
)

func (e *RevisionError) Error() string {
	return fmt.Sprintf("revision %d is not here yet: the latest is %d", e.Want, e.Have)
}

func (e *PlaceError) Error() string {
	return fmt.Sprintf("the page is of revision %d: %s: begin the search anew", e.Revision, e.Reason)
}

func (e *UnavailableError) Error() string {
	if e.Cause == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Cause.Error()
}

// Unwrap is the cause, for errors.Is and errors.As.
func (e *UnavailableError) Unwrap() error { return e.Cause }

func (e *RollbackError) Error() string {
	return fmt.Sprintf("revision %d is older than revision %d, which is in force", e.Got, e.Have)
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("the state is of the platform %q, not of %q", e.Got, e.Have)
}

func (e *ObjectError) Error() string {
	if e.Owner == "" {
		return fmt.Sprintf("%s %q: %s", e.Kind, e.ID, e.Reason)
	}
	return fmt.Sprintf("%s %q of owner %q: %s", e.Kind, e.ID, e.Owner, e.Reason)
}
