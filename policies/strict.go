package policies

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeStrict reads one JSON value into v, refusing unknown names, duplicate
// names (names are told apart by case, so that the same name in another case is
// unknown), wrong types, invalid UTF-8 and anything after the value. Every fault
// is a [*MalformedError] that says where.
func DecodeStrict(data []byte, v any) error { return decodeStrictFrom(1, data, v) }

// decodeStrictFrom is DecodeStrict of data that begin on the given line of
// something larger.
func decodeStrictFrom(line int, data []byte, v any) error {
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
		return malformedFrom(line, data, err)
	}
	return nil
}

// Malformed turns an error of the JSON library into a [*MalformedError] in our
// words: Where is the JSON pointer, and a fault of syntax names line and column
// in data, which may be nil. Other errors it returns as they are.
func Malformed(data []byte, err error) error { return malformedFrom(1, data, err) }

func malformedFrom(line int, data []byte, err error) error {
	var already *MalformedError
	if errors.As(err, &already) {
		return already
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &MalformedError{Where: shortPointer(syntactic.JSONPointer), Reason: syntaxReason(line, data, syntactic)}
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return &MalformedError{Where: shortPointer(semantic.JSONPointer), Reason: semanticReason(semantic)}
	}
	return err
}

func syntaxReason(line int, data []byte, err *jsontext.SyntacticError) string {
	if errors.Is(err.Err, jsontext.ErrDuplicateName) {
		return "stands twice"
	}
	reason := "is not valid JSON"
	if err.Err != nil {
		reason += ": " + Shorten(err.Err.Error())
	}
	if offset := int(err.ByteOffset); data != nil && offset <= len(data) {
		before := data[:offset]
		line += bytes.Count(before, []byte{'\n'})
		column := offset - bytes.LastIndexByte(before, '\n')
		reason += fmt.Sprintf(" (line %d, column %d)", line, column)
	}
	return reason
}

func semanticReason(err *json.SemanticError) string {
	switch {
	case errors.Is(err.Err, json.ErrUnknownName):
		return "is not a known field"
	case err.Err != nil:
		return "cannot be read: " + Shorten(err.Err.Error())
	case err.JSONKind == 0 || err.GoType == nil:
		return "cannot be read"
	case wantedName(err.GoType) == "":
		return "must not be " + kindName(err.JSONKind)
	default:
		return "must be " + wantedName(err.GoType) + ", not " + kindName(err.JSONKind)
	}
}

// wantedName is the kind of JSON that is read into a type, "" if it is not one.
func wantedName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a string"
	case k == reflect.Slice, k == reflect.Array:
		return "an array"
	case k == reflect.Struct, k == reflect.Map:
		return "an object"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Float64:
		return "a number"
	}
	return ""
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{', '}':
		return "an object"
	case '[', ']':
		return "an array"
	case jsontext.KindInvalid:
	}
	return "of this kind"
}

// maxEcho bounds how much of the input an error repeats.
const maxEcho = 200

func shortPointer(p jsontext.Pointer) string { return Shorten(string(p)) }

// quote is s in quotes, not too long.
func quote[T ~string](s T) string { return strconv.Quote(Shorten(string(s))) }

// Shorten is s, cut where an error would repeat too much of what was sent.
func Shorten(s string) string {
	if len(s) <= maxEcho {
		return s
	}
	cut := maxEcho
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not within a character
		cut--
	}
	return s[:cut] + "…"
}
