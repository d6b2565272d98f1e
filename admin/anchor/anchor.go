// Package anchor keeps heads of the change log elsewhere: signed statements of which
// hash the log of a platform had at a revision. The hash chain shows that an entry was
// changed, but not that everything after it was written anew; a head that whoever can
// write to the database cannot change shows that too.
package anchor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// MaxBytes bounds what [Read] takes.
const MaxBytes = 16 << 20

// head is what is signed, as canonical JSON.
type head struct {
	Platform string            `json:"platform"`
	Revision policies.Revision `json:"revision"`
	Hash     policies.Hash     `json:"hash"`
	Time     time.Time         `json:"time"` // of the revision
}

// signed is an anchor as it is written: one line.
type signed struct {
	Head       head               `json:"head"`
	Signatures signing.Signatures `json:"signatures"`
}

// Write writes the anchor of a head: a line of JSON.
func Write(w io.Writer, h store.Header, signer *signing.Signer) error {
	statement := head{h.Platform, h.Revision, h.Hash, h.Time}
	text, err := policies.CanonicalJSON(statement)
	if err != nil {
		return fmt.Errorf("encode the head: %w", err)
	}
	signatures, err := signer.Sign(signing.Head, text)
	if err != nil {
		return err
	}
	line, err := policies.CanonicalJSON(signed{statement, signatures})
	if err != nil {
		return fmt.Errorf("encode the head: %w", err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Read reads anchors, one a line, and verifies each. Errors say which line is wrong;
// none at all is an error too.
func Read(r io.Reader, verifier *signing.Verifier) ([]store.Header, error) {
	if verifier == nil {
		return nil, errors.New("no key to verify the signature by")
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the anchors: %w", err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the anchors are larger than %d bytes", MaxBytes)
	}
	var heads []store.Header
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		h, err := readLine(line, verifier)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		heads = append(heads, h)
	}
	if len(heads) == 0 {
		return nil, errors.New("there is no anchor in it: `usher audit anchor` makes one")
	}
	return heads, nil
}

func readLine(line []byte, verifier *signing.Verifier) (store.Header, error) {
	var s signed
	if err := json.Unmarshal(line, &s, json.RejectUnknownMembers(true)); err != nil {
		return store.Header{}, fmt.Errorf("it is no anchor: %w", err)
	}
	text, err := policies.CanonicalJSON(s.Head)
	if err != nil {
		return store.Header{}, fmt.Errorf("encode the head: %w", err)
	}
	if err := verifier.Verify(signing.Head, text, s.Signatures); err != nil {
		return store.Header{}, err
	}
	return store.Header{Platform: s.Head.Platform, Revision: s.Head.Revision, Hash: s.Head.Hash, Time: s.Head.Time}, nil
}
