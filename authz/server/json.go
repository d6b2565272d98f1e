package server

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// members reads an object and calls member with the name of each of its members,
// which reads the value. Anything else than an object is a fault, and skipped.
func (d *decoder) members(fault **policies.MalformedError, reason string, member func(name []byte) error) error {
	if d.json.PeekKind() != '{' {
		return d.wrong(fault, reason)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() != '}' {
		raw, err := d.json.ReadValue()
		if err != nil {
			return err
		}
		name, err := d.unquote(raw)
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// text reads a string.
func (d *decoder) text(fault **policies.MalformedError, into *string) error {
	if d.json.PeekKind() != '"' {
		return d.wrong(fault, "must be a string")
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		return err
	}
	text, err := d.unquote(raw)
	if err != nil {
		return err
	}
	*into = interned(text)
	return nil
}

// unquote is the string in raw, good until the next one.
func (d *decoder) unquote(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	var err error
	d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw)
	return d.scratch, err
}

// wrong notes a fault of the value that comes next, and skips it.
func (d *decoder) wrong(fault **policies.MalformedError, reason string) error {
	// Skipped first: what is not even JSON is the graver fault.
	if err := d.json.SkipValue(); err != nil {
		return err
	}
	d.note(fault, reason)
	return nil
}

// note notes a fault of the value just read, unless there is one already.
func (d *decoder) note(fault **policies.MalformedError, reason string) {
	if *fault == nil {
		*fault = &policies.MalformedError{Where: policies.Shorten(string(d.json.StackPointer())), Reason: reason}
	}
}

// interned is text as a string; the words that stand in almost every request are
// not allocated.
func interned(text []byte) string {
	switch string(text) {
	case "account":
		return "account"
	case string(policies.TypeEnvironment):
		return string(policies.TypeEnvironment)
	case string(policies.TypeGroup):
		return string(policies.TypeGroup)
	case string(policies.TypeEnvironments):
		return string(policies.TypeEnvironments)
	case string(policies.TypeGroups):
		return string(policies.TypeGroups)
	}
	return string(text)
}

// syntaxFault is err of the JSON decoder as a fault of the request: not JSON, not
// UTF-8, a duplicate key, nested too deep.
func syntaxFault(err error) error {
	var tooLarge *tooLargeError
	if errors.As(err, &tooLarge) {
		return err
	}
	fault := &policies.MalformedError{Reason: "the body is not JSON: it ends too early"}
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return fault
	}
	fault.Where = policies.Shorten(string(syntax.JSONPointer)) // 10,000 brackets make one of 20,000 bytes
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		fault.Reason = "a key stands twice in one object"
	case !errors.Is(err, io.ErrUnexpectedEOF):
		fault.Reason = "the body is not JSON: " + syntax.Err.Error()
	}
	return fault
}
