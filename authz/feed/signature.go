package feed

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// What is signed, and why that is enough:
//
//	heartbeat     platform, position, time, and the asker's nonce: it was made for
//	              this connection, after it began. So nothing old passes for new,
//	              whatever the clocks say.
//	seal          platform, the digest of the lines of the changes or notices
//	              since the seal before, and the revision and chain hash that they
//	              lead to. They are not used before their seal is verified. That they
//	              follow on what is here, the chain proves.
//	snapshot_end  platform, mode, count and digest of the lines.
//	lookup,       digests of request and answer, and the asker's nonce.
//	search

// NonceHeader carries the nonce of a look-up or a search; the stream takes a parameter.
const NonceHeader = "Usher-Nonce"

// WitnessHeader carries the last heartbeat or seal that a client has verified, as
// [FormatWitness] writes it: a proof that the revision was, for a server whose database
// has lost it.
const WitnessHeader = "Usher-Witness"

// FormatWitness is a heartbeat or a seal as the header has it: its line in base64,
// without padding.
func FormatWitness(f Frame) (string, error) {
	line, err := AppendFrame(nil, f)
	return base64.RawURLEncoding.EncodeToString(line), err
}

// ParseWitness reads and verifies the header, for a server of this platform; nil: it is
// empty.
func ParseWitness(header, platform string, v *signing.Verifier) (*Position, error) {
	if header == "" {
		return nil, nil //nolint:nilnil // none is no fault
	}
	line, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return nil, fmt.Errorf("header %s is not base64", WitnessHeader)
	}
	f, err := NewReader(bytes.NewReader(append(line, '\n'))).Next()
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", WitnessHeader, err)
	}
	p := &Position{Platform: platform}
	switch f := f.(type) {
	case *Heartbeat:
		p.Revision, p.Hash = f.Revision, f.Hash
		if err = f.Verify(v); err == nil && f.Platform != platform {
			err = fmt.Errorf("it is of platform %q", f.Platform)
		}
	case *Seal:
		p.Revision, p.Hash = f.Revision, f.Hash
		err = f.verify(v, platform)
	default:
		err = fmt.Errorf("a frame of type %s proves nothing", f.Type())
	}
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", WitnessHeader, err)
	}
	return p, nil
}

// maxNonce is the longest nonce that a server signs.
const maxNonce = 64

// The longest run of changes or notices under one seal.
const (
	// MaxSealed is how many a server puts under a seal at most.
	MaxSealed = 256
	// MaxSealedBytes is when a server seals what it has written, however few.
	MaxSealedBytes = 64 << 10
)

// newNonce is 128 random bits.
func newNonce() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

// ValidNonce tells whether a server signs for nonce: empty, or up to 64 digits of
// lower-case hex.
func ValidNonce(nonce string) bool {
	if len(nonce) > maxNonce {
		return false
	}
	for _, c := range []byte(nonce) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Sign signs h for the asker with its nonce.
func (h *Heartbeat) Sign(s *signing.Signer) (err error) {
	h.Signatures, err = s.Sign(signing.Heartbeat, h.text())
	return err
}

// Verify returns nil if h is signed by a key of v, or if v is nil, else what
// [signing.Verifier.Verify] says. It does not look at the nonce.
func (h *Heartbeat) Verify(v *signing.Verifier) error {
	return v.Verify(signing.Heartbeat, h.text(), h.Signatures)
}

func (h *Heartbeat) text() []byte {
	return quoted(h.Platform, h.Revision.String(), h.Hash.String(), h.Time.UTC().Format(time.RFC3339Nano), h.Nonce)
}

// Sign signs the snapshot of a platform in a mode.
func (e *SnapshotEnd) Sign(s *signing.Signer, platform string, mode Mode) (err error) {
	e.Signatures, err = s.Sign(signing.SnapshotEnd, e.text(platform, mode))
	return err
}

func (e *SnapshotEnd) text(platform string, mode Mode) []byte {
	return quoted(platform, string(mode), strconv.FormatUint(e.Count, 10), e.Digest.String())
}

// Sealer gathers the digest of lines until they are sealed. The zero value is ready.
type Sealer struct {
	tally *Tally
	bytes int
}

// Line adds the line of a change or a notice, without its line feed.
func (s *Sealer) Line(line []byte) {
	if s.tally == nil {
		s.tally = newTally()
	}
	s.tally.Object(line)
	s.bytes += len(line)
}

// Len is how many lines are not sealed yet.
func (s *Sealer) Len() int {
	if s.tally == nil {
		return 0
	}
	return int(s.tally.count)
}

// Full tells whether a seal must come before the next line.
func (s *Sealer) Full() bool { return s.Len() >= MaxSealed || s.bytes >= MaxSealedBytes }

// Seal is the frame for the lines since the last one, of platform, which lead to the
// revision with this chain hash, and begins anew.
func (s *Sealer) Seal(signer *signing.Signer, platform string, revision policies.Revision, hash policies.Hash) (*Seal, error) {
	seal := s.end()
	seal.Revision, seal.Hash = revision, hash
	var err error
	seal.Signatures, err = signer.Sign(signing.Seal, seal.text(platform))
	return seal, err
}

func (s *Sealer) end() *Seal {
	end := s.tally.End()
	*s = Sealer{}
	return &Seal{Count: end.Count, Digest: end.Digest}
}

func (s *Seal) verify(v *signing.Verifier, platform string) error {
	return v.Verify(signing.Seal, s.text(platform), s.Signatures)
}

func (s *Seal) text(platform string) []byte {
	return quoted(platform, strconv.FormatUint(s.Count, 10), s.Digest.String(), s.Revision.String(), s.Hash.String())
}

// AnswerText is what is signed of the answer to a look-up or a search: its bytes up to
// its signatures, the bytes of the request, and the nonce of its header.
func AnswerText(answer, request policies.Hash, nonce string) []byte {
	return quoted(answer.String(), request.String(), nonce)
}

// signaturesMember begins the last member of an answer. It cannot stand
// within a JSON string, where quotes are escaped.
var signaturesMember = []byte(`,"signatures":`)

// splitAnswer is what of an answer the signatures at its end are of, and that end.
func splitAnswer(answer []byte) (unsigned, member []byte) {
	if i := bytes.LastIndex(answer, signaturesMember); i >= 0 {
		return answer[:i], answer[i:]
	}
	return answer, nil
}

// quoted is fields, each quoted on a line of its own, so that no two lists of fields
// have the same text.
func quoted(fields ...string) []byte {
	var b []byte
	for _, field := range fields {
		b = append(strconv.AppendQuote(b, field), '\n')
	}
	return b
}

// unverified classifies the error of a verifier, which may be nil.
func unverified(what string, err error) error {
	var unknown *signing.UnknownKeyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return refuse(RefusedUnsigned, fmt.Errorf("%s: %w", what, err))
	}
	return refuse(RefusedForged, fmt.Errorf("%s: %w", what, err))
}
