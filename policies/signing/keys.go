package signing

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Purpose is what a signature is for.
type Purpose string

// The purposes. Each names its format: a later one gets another name.
const (
	Heartbeat   Purpose = "usher feed heartbeat 1"
	Seal        Purpose = "usher feed seal 1"
	SnapshotEnd Purpose = "usher feed snapshot 1"
	Lookup      Purpose = "usher feed lookup 1"
	Search      Purpose = "usher feed search 1"
	Head        Purpose = "usher log head 1"
)

// digest is what is signed: the purpose, a zero byte, which no purpose has, and the
// text.
func (p Purpose) digest(text []byte) [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write([]byte(p)) // a hash takes everything
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(text)
	return [sha256.Size]byte(h.Sum(nil))
}

// Signatures are signatures of one text by the ids of their keys, in base64 (URL
// alphabet, no padding).
type Signatures map[string]string

// Signer signs with all of its keys. Nil signs nothing.
type Signer struct{ keys []*Key }

// NewSigner makes a signer; none without keys. The first key signs what can carry
// one signature only. Keys that stand twice are an error.
func NewSigner(keys ...*Key) (*Signer, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k.id] {
			return nil, fmt.Errorf("the signing key %s is given twice", k.id)
		}
		seen[k.id] = true
	}
	return &Signer{keys}, nil
}

// First is the key for what carries one signature; nil: there is none.
func (s *Signer) First() *Key {
	if s == nil {
		return nil
	}
	return s.keys[0]
}

// Verifier verifies what s signs; nil for nil.
func (s *Signer) Verifier() *Verifier {
	if s == nil {
		return nil
	}
	keys := make([]*PublicKey, len(s.keys))
	for i, k := range s.keys {
		keys[i] = k.Public()
	}
	v, _ := NewVerifier(keys...) // they differ, says NewSigner
	return v
}

// Sign signs text for a purpose with every key; nothing if s is nil.
func (s *Signer) Sign(purpose Purpose, text []byte) (Signatures, error) {
	if s == nil {
		return nil, nil
	}
	signatures := make(Signatures, len(s.keys))
	for _, k := range s.keys {
		signature, err := k.Sign(purpose, text)
		if err != nil {
			return nil, err
		}
		signatures[k.id] = base64.RawURLEncoding.EncodeToString(signature)
	}
	return signatures, nil
}

// Verifier verifies by any of its keys. Nil verifies nothing: it is for those who
// trust the connection.
type Verifier struct{ keys map[string]*PublicKey }

// NewVerifier makes a verifier; none without keys. Keys that stand twice are an error.
func NewVerifier(keys ...*PublicKey) (*Verifier, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	v := &Verifier{make(map[string]*PublicKey, len(keys))}
	for _, k := range keys {
		if _, twice := v.keys[k.id]; twice {
			return nil, fmt.Errorf("the verification key %s is given twice", k.id)
		}
		v.keys[k.id] = k
	}
	return v, nil
}

// Key finds a key by its id.
func (v *Verifier) Key(id string) (*PublicKey, bool) {
	if v == nil {
		return nil, false
	}
	k, ok := v.keys[id]
	return k, ok
}

// UnknownKeyError says that none of the signatures, if there were any, is by a key
// that is known here. Find it with errors.As.
type UnknownKeyError struct{ Purpose Purpose }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("no signature (%s) by a key that is known here", e.Purpose)
}

// SignatureError says that a signature by a known key is wrong: the text was altered,
// or the signature. Find it with errors.As.
type SignatureError struct {
	Purpose Purpose
	KeyID   string
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("the signature (%s) by key %s is wrong", e.Purpose, e.KeyID)
}

// Verify returns nil if one of the signatures by a known key is right, or if v is nil;
// else an [*UnknownKeyError] or a [*SignatureError].
func (v *Verifier) Verify(purpose Purpose, text []byte, signatures Signatures) error {
	if v == nil {
		return nil
	}
	var err error = &UnknownKeyError{purpose}
	for id, k := range v.keys {
		encoded, ok := signatures[id]
		if !ok {
			continue
		}
		signature, decodeErr := base64.RawURLEncoding.Strict().DecodeString(encoded)
		if decodeErr == nil && k.Verify(purpose, text, signature) {
			return nil
		}
		err = &SignatureError{purpose, id}
	}
	return err
}
