package feed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// heldLimits is how many times the silence that a client bears heartbeats may come
// late, by the time that was waited for them: buffers on a slow way are not a fault.
const heldLimits = 3

// verifies tells whether the session takes only what is signed.
func (s *session) verifies() bool { return s.c.o.Verifier != nil }

// mayFollow tells whether f may come while changes wait for their seal.
func (s *session) mayFollow(f Frame) bool {
	switch f.(type) {
	case *Change, *Notice, *Seal:
		return true
	}
	return len(s.unsealed) == 0
}

// genuine refuses a heartbeat that the server did not make for this connection, or
// that was held back on its way.
func (s *session) genuine(h *Heartbeat) error {
	if !s.verifies() {
		return nil
	}
	if err := unverified("a heartbeat", h.Verify(s.c.o.Verifier)); err != nil {
		return err
	}
	if h.Nonce != s.nonce {
		return refuse(RefusedReplayed, errors.New("a heartbeat was made for another connection"))
	}
	if !s.mayFollow(h) {
		return outOfPlace(h)
	}
	if s.heartbeats == 0 {
		s.platform, s.first, s.firstAfter = h.Platform, h.Time, s.watch.total
	}
	// A snapshot fills every buffer on the way.
	if held := s.held(h); s.tally == nil && held > heldLimits*s.c.o.Silence {
		return refuse(RefusedReplayed, fmt.Errorf("heartbeats are held back: they come %s late", held.Round(time.Millisecond)))
	}
	return nil
}

// held is how much later than the first heartbeat h came, beyond the time between the
// two on the server's clock. What the client did not wait for is not counted.
func (s *session) held(h *Heartbeat) time.Duration {
	if !s.verifies() {
		return 0
	}
	return max(s.watch.total-s.firstAfter-h.Time.Sub(s.first), 0)
}

// sealed applies a change or a notice, or lets it wait for its seal.
func (s *session) sealed(ctx context.Context, f Frame) error {
	if !s.verifies() {
		return s.apply(ctx, f)
	}
	if s.sealer.Full() {
		return refuse(RefusedOversized, errors.New("too much comes without a seal"))
	}
	s.sealer.Line(s.in.Line())
	s.unsealed = append(s.unsealed, f)
	return nil
}

func (s *session) apply(ctx context.Context, f Frame) error {
	switch f := f.(type) {
	case *Change:
		return s.change(ctx, f)
	case *Notice:
		return s.notice(f)
	}
	return outOfPlace(f)
}

// seal applies what the seal vouches for.
func (s *session) seal(ctx context.Context, f *Seal) error {
	if !s.verifies() {
		return nil // this client trusts the connection, and has applied all
	}
	if len(s.unsealed) == 0 {
		return outOfPlace(f)
	}
	got := s.sealer.end()
	switch {
	case got.Count != f.Count:
		return refuse(RefusedTruncated, fmt.Errorf("a seal is on %d lines, and %d came", f.Count, got.Count))
	case got.Digest != f.Digest:
		return refuse(RefusedAltered, errors.New("the digest of a seal is not that of the lines before it"))
	}
	if err := unverified("a seal", f.verify(s.c.o.Verifier, s.platform)); err != nil {
		return err
	}
	frames := s.unsealed
	s.unsealed = s.unsealed[:0:0]
	for _, f := range frames {
		if err := s.apply(ctx, f); err != nil {
			return err
		}
	}
	if f.Revision > s.c.witnessed {
		s.c.witness, s.c.witnessed = f, f.Revision
	}
	return nil
}
