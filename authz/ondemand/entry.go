package ondemand

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// A value in Redis:
//
//	MAC        32 bytes, over the key and all that follows
//	FLAGS      1 byte: bit 0 compressed (zstd), bit 1 exists
//	FROM, TO   uvarint each: the revisions at which the value is known to be true
//	BODY       of permissions: their compact form; of an owner: the account's id;
//	           of a subject: nothing; of an account: its objects as a JSON array
//
// The kind is not in the value: it is in the key, which the MAC covers.

const (
	flagCompressed = 1 << iota
	flagExists

	flagsKnown = flagCompressed | flagExists
)

// The limits of values, in bytes. What is larger is not put into Redis, and of
// what was put there by others no more than one byte beyond is read.
const (
	maxSmallValue       = 256
	maxPermissionsValue = 16 << 10
	maxAccountValue     = 2 << 20
	// maxBody bounds what a compressed body may expand to.
	maxBody = 64 << 20
	// compressFrom is the least body that is worth compressing.
	compressFrom = 1 << 10
)

// maxValue is the limit for values of kind k.
func maxValue(k kind) int {
	switch k {
	case kindPermissions:
		return maxPermissionsValue
	case kindAccount:
		return maxAccountValue
	case kindOwner, kindSubject, kindStamp:
	}
	return maxSmallValue
}

// errTooLarge is a fact that does not go into Redis because of its size.
var errTooLarge = errors.New("the entry is over its limit")

// codec puts facts into the form they have in Redis, and reads them. It may be
// used by any number of goroutines.
type codec struct {
	sealer *sealer
	zip    *zstd.Encoder
	unzip  *zstd.Decoder
}

func newCodec(keys [][]byte) (*codec, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make the compressor: %w", err)
	}
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderMaxWindow(maxBody))
	if err != nil {
		return nil, fmt.Errorf("make the decompressor: %w", err)
	}
	return &codec{sealer: newSealer(keys), zip: zip, unzip: unzip}, nil
}

// encode is the value for f under key, or [errTooLarge].
func (c *codec) encode(key string, f *fact) ([]byte, error) {
	body, err := encodeBody(f)
	if err != nil {
		return nil, err
	}
	var flags byte
	if f.exists {
		flags |= flagExists
	}
	if len(body) >= compressFrom {
		flags |= flagCompressed
		body = c.zip.EncodeAll(body, nil)
	}
	value := make([]byte, 0, 1+2*binary.MaxVarintLen64+len(body))
	value = append(value, flags)
	value = binary.AppendUvarint(value, uint64(f.from))
	value = binary.AppendUvarint(value, uint64(f.until()))
	value = append(value, body...)
	if macSize+len(value) > maxValue(f.name.kind) {
		return nil, errTooLarge
	}
	return c.sealer.seal(make([]byte, 0, macSize+len(value)), key, value), nil
}

func encodeBody(f *fact) ([]byte, error) {
	switch f.name.kind {
	case kindPermissions:
		return f.permissions.AppendBinary(nil), nil
	case kindOwner:
		return []byte(f.owner), nil
	case kindAccount:
		if !f.exists {
			return nil, nil
		}
		return encodeAccount(f.account)
	case kindSubject, kindStamp:
	}
	return nil, nil
}

func encodeAccount(a *authz.Account) ([]byte, error) {
	var objects []policies.Object
	for o, err := range a.Objects() {
		if err != nil {
			return nil, fmt.Errorf("encode account %q: %w", a.ID(), err)
		}
		objects = append(objects, o)
	}
	return json.Marshal(objects)
}

// decode is the fact named n from the value found under key. Every error means
// that the value must be taken for a miss; [errForged] that none of us wrote it.
func (c *codec) decode(policy *authz.Policy, key string, n name, sealed []byte) (*fact, error) {
	if len(sealed) > maxValue(n.kind) {
		return nil, errTooLarge
	}
	value, err := c.sealer.open(key, sealed)
	if err != nil {
		return nil, err
	}
	return c.decodeValue(policy, n, value)
}

// decodeValue reads what stands after the MAC. It is as careful as if there were
// none: a later version of usher, or a faulty one, may hold the same secret.
func (c *codec) decodeValue(policy *authz.Policy, n name, value []byte) (*fact, error) {
	if len(value) == 0 || value[0]&^flagsKnown != 0 {
		return nil, errors.New("the entry's flags are not known")
	}
	flags, rest := value[0], value[1:]
	from, rest, err := readRevision(rest)
	if err != nil {
		return nil, err
	}
	to, body, err := readRevision(rest)
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, fmt.Errorf("the entry holds from revision %d to %d", from, to)
	}
	if flags&flagCompressed != 0 {
		if body, err = c.unzip.DecodeAll(body, nil); err != nil {
			return nil, fmt.Errorf("decompress the entry: %w", err)
		}
	}
	f := newFact(n, from, to)
	f.exists = flags&flagExists != 0
	if err := decodeBody(policy, f, body); err != nil {
		return nil, err
	}
	return f, nil
}

func readRevision(b []byte) (policies.Revision, []byte, error) {
	r, n := binary.Uvarint(b)
	if n <= 0 || r > uint64(policies.MaxRevision) {
		return 0, nil, errors.New("the entry has no revision")
	}
	return policies.Revision(r), b[n:], nil
}

// decodeBody fills in f what its kind has.
func decodeBody(policy *authz.Policy, f *fact, body []byte) error {
	switch f.name.kind {
	case kindPermissions:
		return decodePermissions(policy, f, body)
	case kindAccount:
		return decodeAccount(f, body)
	case kindOwner:
		if f.exists != (len(body) > 0) {
			return errors.New("the entry's owner is missing, or is one too many")
		}
		f.owner = policies.AccountID(body)
		return nil
	case kindSubject:
		if len(body) > 0 {
			return errors.New("the entry has a body")
		}
		return nil
	case kindStamp:
	}
	return errors.New("no such entries are kept")
}

func decodePermissions(policy *authz.Policy, f *fact, body []byte) error {
	if !f.exists {
		return errors.New("permissions that do not exist")
	}
	p, err := policy.DecodePermissions(body)
	if err != nil {
		return fmt.Errorf("decode permissions: %w", err)
	}
	f.setPermissions(p)
	return nil
}

func decodeAccount(f *fact, body []byte) error {
	if !f.exists {
		if len(body) > 0 {
			return errors.New("an account that does not exist has objects")
		}
		return nil
	}
	var objects []policies.Object
	if err := json.Unmarshal(body, &objects, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("decode the account's objects: %w", err)
	}
	account, err := authz.BuildAccount(policies.AccountID(f.name.id), f.from, objects)
	if err != nil {
		return fmt.Errorf("build the account: %w", err)
	}
	f.setAccount(account, len(body))
	return nil
}
