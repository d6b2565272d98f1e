package feed

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// TooLongError is a frame that no reader would take.
type TooLongError struct {
	Type  Type
	Bytes int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("a frame of type %s and %d bytes is over the limit of %d", e.Type, e.Bytes, maxLine(e.Type))
}

// AppendFrame appends f's line to dst, without a line feed. The error is a
// [*TooLongError], or says what in f cannot be written; dst is then as it was.
func AppendFrame(dst []byte, f Frame) ([]byte, error) {
	start := len(dst)
	out, err := appendFrame(append(append(dst, `{"type":"`...), f.Type()...), f)
	if err != nil {
		return dst, fmt.Errorf("encode a frame of type %s: %w", f.Type(), err)
	}
	if size := len(out) - start; size > maxLine(f.Type()) {
		return dst, &TooLongError{Type: f.Type(), Bytes: size}
	}
	return out, nil
}

// appendFrame goes on after the opening quote and the name of the type. Objects
// and changes, the bulk of a stream, are written by hand: their bodies are JSON
// already, and a change's must be written as the bytes that were hashed.
func appendFrame(dst []byte, f Frame) ([]byte, error) {
	var err error
	switch f := f.(type) {
	case *Object:
		return appendObject(append(dst, `",`...), f.Object)
	case *Change:
		return appendChange(append(dst, '"'), f)
	case *Snapshot:
		dst, err = appendMembers(dst, f)
	case *SnapshotEnd:
		dst, err = appendMembers(dst, f)
	case *Notice:
		dst, err = appendMembers(dst, f)
	case *Seal:
		dst, err = appendMembers(dst, f)
	case *Heartbeat:
		dst, err = appendMembers(dst, f)
	}
	return dst, err
}

// AppendObject appends o as a JSON object, as policies.Object's members are named.
// The error says that o is a deletion, or has a name that is not UTF-8; dst is then
// as it was.
func AppendObject(dst []byte, o policies.Object) ([]byte, error) {
	out, err := appendObject(append(dst, '{'), o)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// appendObject goes on after the opening brace or a comma.
func appendObject(dst []byte, o policies.Object) ([]byte, error) {
	if o.Deleted() {
		return nil, fmt.Errorf("%s %q is deleted", o.Kind, o.ID)
	}
	var err error
	dst = append(dst, `"kind":`...)
	if dst, err = jsontext.AppendQuote(dst, o.Kind); err != nil {
		return nil, err
	}
	if o.Owner != "" {
		dst = append(dst, `,"owner":`...)
		if dst, err = jsontext.AppendQuote(dst, o.Owner); err != nil {
			return nil, err
		}
	}
	dst = append(dst, `,"id":`...)
	if dst, err = jsontext.AppendQuote(dst, o.ID); err != nil {
		return nil, err
	}
	dst = append(dst, `,"body":`...)
	return append(append(dst, o.Body...), '}'), nil
}

func appendChange(dst []byte, c *Change) ([]byte, error) {
	objects, err := rawObjects(c.Change)
	if err != nil {
		return nil, err
	}
	dst = append(append(dst, `,"revision":`...), c.Revision.String()...)
	dst = append(dst, `,"time":"`...)
	dst = c.Time.UTC().AppendFormat(dst, timeFormat)
	dst = append(append(dst, `","objects":`...), objects...)
	dst = append(append(dst, `,"audit_hash":"`...), c.AuditHash.String()...)
	dst = append(append(dst, `","hash":"`...), c.Hash.String()...)
	return append(dst, `"}`...), nil
}

const timeFormat = "2006-01-02T15:04:05.999999999Z07:00"

// appendMembers appends v's members after the type.
func appendMembers(dst []byte, v any) ([]byte, error) {
	members, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dst = append(dst, `",`...)
	return append(dst, members[1:]...), nil
}
