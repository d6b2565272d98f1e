package feed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

const readBuffer = 64 << 10

// Reader reads frames. It is strict (a frame's first member is its type, names
// stand once, text is UTF-8, nothing stands between frames) and bounded: a line
// takes memory only as its bytes arrive, up to the limit of its type. It is for one
// goroutine.
type Reader struct {
	in      *bufio.Reader
	line    []byte
	objects objectReader
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, readBuffer)} }

// Line is the last frame's line without its line feed, until the next [Reader.Next].
func (r *Reader) Line() []byte { return r.line }

// Next reads a frame, which is the caller's, but that of an object only until the next
// is read. It returns io.EOF where the stream ends between two frames, a
// [*RefusedError] for what is not a frame, else the underlying reader's error. After
// an error it is of no more use.
func (r *Reader) Next() (Frame, error) {
	kind, err := r.readLine()
	if err != nil {
		return nil, err
	}
	if kind == TypeObject {
		if o, ok := r.objects.read(r.line); ok {
			return o, nil
		}
	}
	f, err := decodeFrame(kind, r.line)
	if err != nil {
		return nil, refuse(RefusedMalformed, fmt.Errorf("a frame of type %s: %w", kind, err))
	}
	return f, nil
}

// readLine reads a line into r.line, and its type.
func (r *Reader) readLine() (Type, error) {
	part, err := r.in.ReadSlice('\n')
	if err == nil {
		part = part[:len(part)-1]
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return "", lineEnd(part, err)
	}
	kind, typeErr := frameType(part)
	if typeErr != nil {
		return "", refuse(RefusedMalformed, typeErr)
	}
	limit := maxLine(kind)
	if len(part) > limit {
		return "", oversized(kind)
	}
	if err == nil {
		r.line = part
		return kind, nil
	}
	whole := append(make([]byte, 0, 4*readBuffer), part...)
	for err != nil {
		part, err = r.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return "", lineEnd(whole, err)
		}
		whole = append(whole, part...)
		if len(bytes.TrimSuffix(whole, []byte{'\n'})) > limit {
			return "", oversized(kind)
		}
	}
	r.line = whole[:len(whole)-1]
	return kind, nil
}

func oversized(kind Type) error {
	return refuse(RefusedOversized, fmt.Errorf("a frame of type %s is longer than %d bytes", kind, maxLine(kind)))
}

// lineEnd is the error for a line that ended by err instead of a line feed.
func lineEnd(begun []byte, err error) error {
	if errors.Is(err, io.EOF) && len(begun) > 0 {
		return refuse(RefusedTruncated, errors.New("the stream ended within a line"))
	}
	return err
}

// frameType reads the type from the beginning of a line.
func frameType(line []byte) (Type, error) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"type":"`))
	if !ok {
		return "", errors.New("a line is not an object that begins with its type")
	}
	// No type is longer than 12 characters: an endless name is not searched.
	name, _, ok := bytes.Cut(rest[:min(len(rest), 13)], []byte{'"'})
	if !ok {
		return "", errors.New("a frame has an unknown type")
	}
	for _, t := range types {
		if string(t) == string(name) {
			return t, nil // which needs no memory
		}
	}
	return "", fmt.Errorf("a frame has the unknown type %q", name)
}

func decodeFrame(kind Type, line []byte) (Frame, error) {
	switch kind {
	case TypeObject:
		return decode(line, func(o *Object) bool { return o.Kind != "" && o.ID != "" && !o.Deleted() })
	case TypeChange:
		return decode(line, func(c *Change) bool {
			return goodRevision(c.Revision) && c.Revision > 0 && !c.Time.IsZero() && c.Objects.Kind() == '['
		})
	case TypeNotice:
		return decode(line, func(n *Notice) bool { return goodRevision(n.Revision) && n.Revision > 0 && !n.Time.IsZero() })
	case TypeSnapshot:
		return decode(line, func(s *Snapshot) bool {
			return s.Platform != "" && goodRevision(s.Revision) && s.After <= s.Revision && !s.Time.IsZero()
		})
	case TypeSnapshotEnd:
		return decode(line, func(*SnapshotEnd) bool { return true })
	case TypeSeal:
		return decode(line, func(s *Seal) bool { return s.Count > 0 && goodRevision(s.Revision) })
	case TypeHeartbeat:
		return decode(line, func(h *Heartbeat) bool {
			return h.Platform != "" && goodRevision(h.Revision) && !h.Time.IsZero()
		})
	}
	return nil, errors.New("unknown type") // frameType lets none through
}

func goodRevision(r policies.Revision) bool { return r <= policies.MaxRevision }

// decode reads a frame of type T; whole tells whether it has what it must have.
// Members that it does not know are ignored, so that a later server may say more.
func decode[T any, F interface {
	*T
	Frame
}](line []byte, whole func(F) bool) (Frame, error) {
	f := F(new(T))
	if err := json.Unmarshal(line, f); err != nil {
		return nil, err
	}
	if !whole(f) {
		return nil, errors.New("a member is missing or out of range")
	}
	return f, nil
}
