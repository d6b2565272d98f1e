package policies

import (
	"fmt"
	"strings"
)

// The kinds of error of the domain. The store translates the database's errors
// into them, and REST turns them into problem documents, each in one function;
// nobody looks at message texts. Find them with errors.As.
type (
	// FieldError is one invalid field. Field is a path such as
	// members[2].grants[0].roles[1]; Reason completes "FIELD …".
	FieldError struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	}

	// InvalidError reports every invalid field of well-formed input at once.
	InvalidError struct{ Errors []FieldError }

	// MalformedError is input that is not even well-formed: JSON that does not
	// parse, a wrong type, an unknown or duplicate key. Where is a JSON pointer or a
	// parameter's name, and may be empty.
	MalformedError struct{ Where, Reason string }

	// TooLargeError is input over a limit of limits.go. Limit is in bytes.
	TooLargeError struct {
		What  string
		Limit int64
	}

	// NotFoundError says that a thing is not there, or may not be seen.
	NotFoundError struct{ Kind, ID string }

	// ForbiddenError says that the caller is known but not allowed.
	ForbiddenError struct{ Reason string }

	// StateError refuses an event in a state (domain.md, Life of a collaboration).
	StateError struct {
		Member CollaborationID
		Status Status
		Event  Event
	}

	// InUseError refuses to remove what others use. Uses holds the first few.
	InUseError struct {
		Kind, ID string
		Count    int
		Uses     []string
	}

	// TakenError says that an id, an email or a name belongs to something else.
	TakenError struct{ Field, Value, Reason string }

	// PreconditionError is a lost If-Match race; ETag is the present one, empty
	// if the object does not exist.
	PreconditionError struct{ ETag string }
)

func (e FieldError) Error() string { return e.Field + " " + e.Reason }

func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Errors))
	for i, f := range e.Errors {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *MalformedError) Error() string {
	if e.Where == "" {
		return e.Reason
	}
	return e.Where + ": " + e.Reason
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s is larger than %d bytes", e.What, e.Limit)
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s %q was not found", e.Kind, e.ID) }

func (e *ForbiddenError) Error() string { return e.Reason }

func (e *StateError) Error() string {
	return fmt.Sprintf("a collaboration that is %s cannot be changed by %q", e.Status, e.Event)
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s %q is in use %d times", e.Kind, e.ID, e.Count)
}

func (e *TakenError) Error() string { return fmt.Sprintf("%s %q %s", e.Field, e.Value, e.Reason) }

func (e *PreconditionError) Error() string { return "the object was changed in the meantime" }
