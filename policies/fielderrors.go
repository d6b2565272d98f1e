package policies

import (
	"fmt"
	"strconv"
)

// fieldErrors gathers invalid fields. A field is reported once, with the first
// reason: what is missing is not also called invalid.
// [MaxFieldErrors] of them are kept; more are counted.
type fieldErrors struct {
	list []FieldError
	seen map[string]bool
	more int
}

func (e *fieldErrors) add(field, reason string) {
	if e.seen[field] {
		return
	}
	if e.seen == nil {
		e.seen = make(map[string]bool)
	}
	e.seen[field] = true
	if len(e.list) >= MaxFieldErrors {
		e.more++
		return
	}
	e.list = append(e.list, FieldError{Field: field, Reason: reason})
}

// err is nil if nothing was added.
func (e *fieldErrors) err() error {
	if len(e.list) == 0 {
		return nil
	}
	if e.more > 0 {
		e.list = append(e.list, FieldError{Reason: fmt.Sprintf("%d more invalid fields are not listed", e.more)})
	}
	return &InvalidError{Errors: e.list}
}

const idReason = "must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter or a digit"

// item is FIELD[INDEX].
func item(field string, index int) string { return field + "[" + strconv.Itoa(index) + "]" }

func checkID[T ~string](e *fieldErrors, field string, id T) {
	if !ValidID(id) {
		e.add(field, idReason)
	}
}

// name checks a name that must not be empty.
func (e *fieldErrors) name(field, s string) {
	if reason := CheckName(s, false); reason != "" {
		e.add(field, reason)
	}
}

// text checks a display name or a description.
func (e *fieldErrors) text(field, s string) {
	if reason := CheckName(s, true); reason != "" {
		e.add(field, reason)
	}
}

func (e *fieldErrors) email(field, s string) {
	if reason := CheckEmail(s); reason != "" {
		e.add(field, reason)
	}
}

func (e *fieldErrors) resourceTypes(field string, types []ResourceType) {
	for i, t := range types {
		if !t.Valid() {
			e.add(item(field, i), fmt.Sprintf("must be one of %v", ResourceTypes))
		}
	}
}

func (e *fieldErrors) actions(field string, names []ActionName) {
	for i, a := range names {
		if !ValidActionName(a) {
			e.add(item(field, i), "must be an action name: dotted words of A-Z a-z 0-9 _ -, up to 200 characters")
		}
	}
}

// addAll adds errors of a part of the input that stands at prefix.
func (e *fieldErrors) addAll(prefix string, list []FieldError) {
	for _, f := range list {
		e.add(prefix+f.Field, f.Reason)
	}
}
