package authz

import (
	"crypto/sha256"
	"runtime"
	"sync"
	"weak"
)

// commons holds each kind of common once, as long as anybody has it.
type commons struct {
	mu    sync.Mutex
	kinds map[commonKey]weak.Pointer[common]
}

// commonKey is the digest of the binary form: two that have the same are the same.
type commonKey [sha256.Size]byte

// find gives the one that has this binary form, nil if nobody has it.
func (s *commons) find(form []byte) *common {
	key := commonKey(sha256.Sum256(form))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kinds[key].Value()
}

// share gives the one that equals c and was there before, or c.
func (s *commons) share(c *common) *common {
	key := commonKey(sha256.Sum256(c.appendBinary(nil)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.kinds[key].Value(); have != nil {
		return have
	}
	if s.kinds == nil {
		s.kinds = map[commonKey]weak.Pointer[common]{}
	}
	s.kinds[key] = weak.Make(c)
	runtime.AddCleanup(c, s.forget, key)
	return c
}

// forget drops what nobody has any more, unless its like came meanwhile.
func (s *commons) forget(key commonKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[key].Value() == nil {
		delete(s.kinds, key)
	}
}
