package feed

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// objectReader reads object frames that stand as [AppendFrame] writes them. A snapshot
// is millions of them, and most resemble the one before: the general decoder takes ten
// times as long. What stands in any other way, and every fault, is left to that.
type objectReader struct {
	kind  policies.Kind // of the last object
	owner policies.AccountID
	// bodies are known to be JSON: an owner has few different ones.
	bodies map[string]jsontext.Value
	// texts has what is given, one behind the other: each alone costs the allocator as
	// much as the rest of the reading.
	texts strings.Builder
	frame Object // what is given, for as long as nothing else is read
}

const (
	maxKnownBodies = 1024
	maxKnownBody   = 256 // bytes
	textsPiece     = 4 << 10
)

func (r *objectReader) read(line []byte) (*Object, bool) {
	line, ok := bytes.CutPrefix(line, []byte(`{"type":"object","kind":"`))
	if !ok {
		return nil, false
	}
	kind, line, ok := cutPlain(line)
	if !ok || len(kind) == 0 {
		return nil, false
	}
	var owner []byte
	if rest, has := bytes.CutPrefix(line, []byte(`,"owner":"`)); has {
		if owner, line, ok = cutPlain(rest); !ok {
			return nil, false
		}
	}
	if line, ok = bytes.CutPrefix(line, []byte(`,"id":"`)); !ok {
		return nil, false
	}
	id, line, ok := cutPlain(line)
	if !ok || len(id) == 0 {
		return nil, false
	}
	body, ok := bytes.CutPrefix(line, []byte(`,"body":`))
	if !ok || !bytes.HasPrefix(body, []byte("{")) || !bytes.HasSuffix(body, []byte("}}")) {
		return nil, false
	}
	if string(r.kind) != string(kind) {
		r.kind = policies.Kind(kind)
	}
	value, ok := r.body(body[:len(body)-1])
	if !ok {
		return nil, false
	}
	if string(r.owner) != string(owner) {
		r.owner = policies.AccountID(owner)
	}
	r.frame.Object = policies.Object{Kind: r.kind, Owner: r.owner, ID: r.text(id), Body: value}
	return &r.frame, true
}

// body gives a copy of a body; false: it is not one JSON value.
func (r *objectReader) body(body []byte) (jsontext.Value, bool) {
	if known, ok := r.bodies[string(body)]; ok {
		return known, true
	}
	value := jsontext.Value(bytes.Clone(body))
	if !value.IsValid() {
		return nil, false
	}
	if len(body) <= maxKnownBody && r.kind != policies.KindMember { // each names another account
		if r.bodies == nil {
			r.bodies = make(map[string]jsontext.Value, maxKnownBodies)
		}
		if len(r.bodies) == maxKnownBodies {
			clear(r.bodies)
		}
		r.bodies[r.text(body)] = value
	}
	return value, true
}

// text gives a copy of text.
func (r *objectReader) text(text []byte) string {
	if r.texts.Len()+len(text) > r.texts.Cap() {
		r.texts.Reset() // what was given keeps its piece
		r.texts.Grow(max(textsPiece, len(text)))
	}
	at := r.texts.Len()
	r.texts.Write(text)
	return r.texts.String()[at:]
}

// cutPlain cuts a string off that ends here, without the quote; false: it has
// something that is written in more than one way, or is not text.
func cutPlain(line []byte) (plain, rest []byte, ok bool) {
	for i, c := range line {
		switch {
		case c == '"':
			return line[:i], line[i+1:], true
		case c < ' ', c > '~', c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}
