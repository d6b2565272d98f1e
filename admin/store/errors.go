package store

import (
	"fmt"
	"strings"
)

type (
	// UnavailableError says that the database cannot be reached now. OutcomeUnknown
	// is set on a write whose COMMIT may or may not have taken effect; without it
	// nothing was changed.
	UnavailableError struct {
		OutcomeUnknown bool
		Err            error
	}

	// SchemaError says that this binary cannot serve the database's schema. Version
	// is the schema's (0: none), Serves what this binary was built for, and Needs
	// the oldest that the schema's last migration still lets in.
	SchemaError struct{ Version, Serves, Needs int64 }

	// IdempotencyError says that the key was used for another request.
	IdempotencyError struct{ Key string }

	// CatalogueError refuses a catalogue that drops a policy or an action in use, or
	// takes a custom policy's id. Problems has a sentence for each, up to a limit.
	CatalogueError struct{ Problems []string }

	// GuardrailsError refuses a policy with which the guardrails in force do not
	// compile. Err says which, and where.
	GuardrailsError struct{ Err error }

	// CursorError says that a page's cursor is none of this list's.
	CursorError struct{ Cursor string }
)

func (e *UnavailableError) Error() string {
	if e.OutcomeUnknown {
		return fmt.Sprintf("the database went away, and whether the change was made is not known: %v", e.Err)
	}
	return fmt.Sprintf("the database cannot be reached, and nothing was changed: %v", e.Err)
}

// Unwrap is the driver's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

func (e *SchemaError) Error() string {
	switch {
	case e.Version == 0:
		return fmt.Sprintf("the database has no usher schema, and this usher needs version %d: run `usher migrate`", e.Serves)
	case e.Version < e.Serves:
		return fmt.Sprintf("the database's schema is version %d, and this usher needs version %d: run `usher migrate`", e.Version, e.Serves)
	case e.Needs <= e.Serves:
		return fmt.Sprintf("the database's schema is version %d, newer than this usher's %d, which can serve it but not migrate it: "+
			"run the `usher migrate` of a newer usher", e.Version, e.Serves)
	default:
		return fmt.Sprintf("the database's schema is version %d, which needs an usher for version %d or later, and this one is for version %d: "+
			"install a newer usher, and run its `usher migrate` if it says so", e.Version, e.Needs, e.Serves)
	}
}

func (e *IdempotencyError) Error() string {
	return fmt.Sprintf("the idempotency key %q was used for another request", e.Key)
}

func (e *CatalogueError) Error() string {
	return "the catalogue cannot be put in force: " + strings.Join(e.Problems, "; ")
}

func (e *GuardrailsError) Error() string {
	return "the guardrails in force do not fit the new Rego, so that nothing was put in force: " +
		"put ones in force that fit both (`usher guardrails set`), or none (`usher guardrails remove`), and try again: " + e.Err.Error()
}

// Unwrap is the compiler's error.
func (e *GuardrailsError) Unwrap() error { return e.Err }

func (e *CursorError) Error() string { return "the cursor is none of this list's" }
