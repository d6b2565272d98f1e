package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/usher-authz/usher/policies/signing"
)

// session follows one connection. It is for one goroutine.
type session struct {
	c          *Client
	nonce      string // of this connection; empty: nothing is verified
	watch      *watch
	in         *Reader
	tally      *Tally // of the snapshot that is being built; nil outside one
	snapshot   *Snapshot
	heartbeats int
	// platform and first are those of the first heartbeat, which came after so long a
	// wait.
	platform   string
	first      time.Time
	firstAfter time.Duration
	// named waits for the receiver to reach the position that it names.
	named *Heartbeat
	// unsealed are the changes or notices that wait for their seal.
	unsealed  []Frame
	sealer    Sealer
	lagging   bool // the last frame was a heartbeat that named a revision to come
	lagsSince time.Duration
}

// follow takes frames until the stream ends or is refused. The error is never nil.
func (s *session) follow(ctx context.Context) error {
	defer s.c.receiver.drop()
	for {
		f, err := s.in.Next()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		if err := s.take(ctx, f); err != nil {
			return err
		}
	}
}

func (s *session) take(ctx context.Context, f Frame) error {
	if h, ok := f.(*Heartbeat); ok {
		return s.heartbeat(h)
	}
	s.lagging = false
	if s.verifies() && (s.heartbeats == 0 || !s.mayFollow(f)) {
		return outOfPlace(f)
	}
	switch f := f.(type) {
	case *Snapshot:
		return s.begin(f)
	case *Object:
		if s.tally == nil {
			return outOfPlace(f)
		}
		s.tally.Object(s.in.Line())
		return unusable(s.c.receiver.add(f.Object))
	case *SnapshotEnd:
		return s.end(ctx, f)
	case *Change:
		if s.tally != nil || s.c.receiver.mode() != ModeResident {
			return outOfPlace(f)
		}
		return s.sealed(ctx, f)
	case *Notice:
		if s.tally != nil || s.c.receiver.mode() != ModeNotices {
			return outOfPlace(f)
		}
		return s.sealed(ctx, f)
	case *Seal:
		return s.seal(ctx, f)
	}
	return outOfPlace(f)
}

func outOfPlace(f Frame) error {
	return refuse(RefusedMalformed, fmt.Errorf("a frame of type %s is out of place", f.Type()))
}

// unusable classifies the error of a receiver, which may be nil or classified.
func unusable(err error) error {
	if err == nil {
		return nil
	}
	return refuse(RefusedUnusable, err)
}

func (s *session) heartbeat(h *Heartbeat) error {
	if err := s.genuine(h); err != nil {
		return err
	}
	if floor, ok := s.c.receiver.floor(); ok {
		switch {
		case h.Platform != floor.Platform:
			return refuse(RefusedPlatform, fmt.Errorf("the server is of platform %q, not of %q", h.Platform, floor.Platform))
		case h.Revision < floor.Revision:
			return refuse(RefusedRollback, fmt.Errorf("the server is at revision %d, behind revision %d", h.Revision, floor.Revision))
		case h.Revision == floor.Revision && h.Hash != floor.Hash:
			return refuse(RefusedAltered, fmt.Errorf("the server has another history of revision %d", h.Revision))
		}
	}
	s.heartbeats++
	if s.verifies() {
		s.c.witness, s.c.witnessed = h, h.Revision
	}
	s.watch.alive()
	s.c.receiver.observe(h.Time)
	s.c.progress.heartbeat(h, s.held(h))
	s.confirm(h)
	return s.lag(h)
}

// lag refuses a stream on which nothing comes but heartbeats, which tell that
// something should: whoever stands between may leave the last changes out for ever.
func (s *session) lag(h *Heartbeat) error {
	at, ok := s.c.receiver.position()
	switch {
	case ok && at.Revision >= h.Revision:
		s.lagging = false
	case !s.lagging:
		s.lagging, s.lagsSince = true, s.watch.total
	case s.watch.total-s.lagsSince >= s.c.o.Silence:
		return refuse(RefusedWithheld, fmt.Errorf("the server is at revision %d, and does not send what leads there", h.Revision))
	}
	return nil
}

func (s *session) begin(f *Snapshot) error {
	if s.tally != nil {
		return outOfPlace(f)
	}
	if floor, ok := s.c.receiver.floor(); ok {
		switch {
		case f.Platform != floor.Platform:
			return refuse(RefusedPlatform, fmt.Errorf("a snapshot of platform %q, not of %q", f.Platform, floor.Platform))
		case f.Revision < floor.Revision:
			return refuse(RefusedRollback, fmt.Errorf("a snapshot of revision %d, behind revision %d", f.Revision, floor.Revision))
		case f.Revision == floor.Revision && f.Hash != floor.Hash:
			return refuse(RefusedAltered, fmt.Errorf("a snapshot of another history of revision %d", f.Revision))
		}
	}
	s.tally, s.snapshot = NewTally(s.in.Line()), f
	return unusable(s.c.receiver.begin(f))
}

func (s *session) end(ctx context.Context, f *SnapshotEnd) error {
	if s.tally == nil {
		return outOfPlace(f)
	}
	got := s.tally.End()
	switch {
	case got.Count != f.Count:
		return refuse(RefusedTruncated, fmt.Errorf("a snapshot has %d objects, not the %d that it names", got.Count, f.Count))
	case got.Digest != f.Digest:
		return refuse(RefusedAltered, errors.New("the digest of a snapshot is not that of its lines"))
	}
	if err := unverified("a snapshot", s.c.o.Verifier.Verify(signing.SnapshotEnd, f.text(s.snapshot.Platform, s.c.receiver.mode()), f.Signatures)); err != nil {
		return err
	}
	s.tally = nil
	if err := s.c.receiver.finish(ctx); err != nil {
		return unusable(err)
	}
	s.c.metrics.snapshots.Inc()
	s.c.metrics.objects.Add(float64(got.Count))
	s.c.o.Logger.LogAttrs(ctx, slog.LevelInfo, "feed snapshot in force",
		slog.Uint64("revision", uint64(s.snapshot.Revision)), slog.Uint64("objects", got.Count))
	s.advanced()
	return nil
}

func (s *session) change(ctx context.Context, f *Change) error {
	at, ok := s.c.receiver.position()
	if !ok {
		return outOfPlace(f)
	}
	if err := changeFollows(f.Change, at); err != nil {
		return err
	}
	if err := s.c.receiver.change(ctx, f.Change); err != nil {
		return unusable(err)
	}
	s.c.metrics.changes.Inc()
	s.advanced()
	return nil
}

func (s *session) notice(f *Notice) error {
	at, ok := s.c.receiver.position()
	if !ok {
		return outOfPlace(f)
	}
	if err := f.Follows(at.Revision, at.Hash); err != nil {
		return err
	}
	if err := s.c.receiver.notice(f); err != nil {
		return unusable(err)
	}
	s.c.metrics.changes.Inc()
	s.advanced()
	return nil
}

// advanced tells progress how far the receiver is.
func (s *session) advanced() {
	if p, ok := s.c.receiver.position(); ok {
		floor, _ := s.c.receiver.floor() // of no platform, if there is none
		s.c.progress.applied(p, floor)
		s.confirm(s.named)
	}
}

// confirm tells that the receiver is where h says, or lets h wait until it is.
func (s *session) confirm(h *Heartbeat) {
	if h == nil || s.c.o.Confirmed == nil {
		return
	}
	at, ok := s.c.receiver.position()
	switch {
	case ok && at == Position{Platform: h.Platform, Revision: h.Revision, Hash: h.Hash}:
		s.named = nil
		s.c.o.Confirmed(h)
	case s.named == nil || ok && s.named.Revision < at.Revision:
		s.named = h
	}
}
