package ondemand

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

const (
	// MinRedisKey is the least length of a key for [Options.RedisKeys], in bytes.
	MinRedisKey = 32
	// MaxRedisKeys is how many keys are accepted at once: the present one, and the
	// one before it (or after it) while keys are rotated.
	MaxRedisKeys = 2

	macSize = sha256.Size
)

// errForged is a value in Redis that none of our keys has signed for the key it
// was found under.
var errForged = errors.New("the entry is not authentic")

// NewRedisKey makes a line for a key file, as [ParseRedisKeys] reads it.
func NewRedisKey() string {
	secret := make([]byte, MinRedisKey)
	_, _ = rand.Read(secret) // never fails, says its documentation
	return base64.StdEncoding.EncodeToString(secret)
}

// ParseRedisKeys reads a key file: one or two keys, each a line of base64 of at
// least [MinRedisKey] bytes; empty lines and lines that begin with # count for
// nothing. The first key signs, both are accepted. To rotate: add the new key as
// the second line everywhere, then make it the first, then drop the old one. The
// error names the line, never what is in it.
func ParseRedisKeys(file []byte) ([][]byte, error) {
	var keys [][]byte
	number := 0
	for line := range bytes.Lines(file) {
		number++
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		secret := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(secret, text)
		if err != nil {
			return nil, fmt.Errorf("line %d of the key file is not base64", number)
		}
		keys = append(keys, secret[:n])
	}
	return keys, validateRedisKeys(keys)
}

func validateRedisKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > MaxRedisKeys {
		return fmt.Errorf("there must be 1 to %d keys for Redis, not %d", MaxRedisKeys, len(keys))
	}
	for i, k := range keys {
		if len(k) < MinRedisKey {
			return fmt.Errorf("key %d for Redis has %d bytes; it must have at least %d", i+1, len(k), MinRedisKey)
		}
	}
	return nil
}

// sealer authenticates values: HMAC-SHA-256 over key and value. So nobody without
// a secret can make a value, change one, or put one under another key.
type sealer struct{ macs []*sync.Pool }

func newSealer(keys [][]byte) *sealer {
	s := &sealer{}
	for _, secret := range keys {
		secret = bytes.Clone(secret)
		// A MAC's state keeps what the secret makes of it, so that a reset one
		// hashes only the message.
		s.macs = append(s.macs, &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }})
	}
	return s
}

// seal appends the MAC of key and value to dst, then value.
func (s *sealer) seal(dst []byte, key string, value []byte) []byte {
	dst = s.sum(dst, 0, key, value)
	return append(dst, value...)
}

// open is the value within sealed, if any of our keys signed it for key.
func (s *sealer) open(key string, sealed []byte) ([]byte, error) {
	if len(sealed) < macSize {
		return nil, errForged
	}
	mac, value := sealed[:macSize], sealed[macSize:]
	var buffer [macSize]byte
	for i := range s.macs {
		if hmac.Equal(mac, s.sum(buffer[:0], i, key, value)) {
			return value, nil
		}
	}
	return nil, errForged
}

// sum appends the MAC by key number i. The length of key stands before it, so that
// no other pair of key and value hashes alike.
func (s *sealer) sum(dst []byte, i int, key string, value []byte) []byte {
	h, _ := s.macs[i].Get().(hash.Hash)
	defer s.macs[i].Put(h)
	h.Reset()
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(key)))
	h.Write(length[:])
	_, _ = io.WriteString(h, key)
	h.Write(value)
	return h.Sum(dst)
}
