package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
)

func placeOf(s *authz.State) place { return place{s.Revision(), s.Hash()} }

// follow keeps the ring at the end of the log until ctx ends.
func (s *Server) follow(ctx context.Context) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: shortestPause, MaxInterval: longestPause, Multiplier: 2, RandomizationFactor: 0.1,
	}
	empty := 0
	for ctx.Err() == nil {
		added, err := s.advance(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && added {
			pause.Reset()
			empty = 0
			continue
		}
		if err != nil {
			s.o.Logger.LogAttrs(ctx, slog.LevelWarn, "feed server cannot follow the log", slog.Any("error", err))
		} else if empty++; empty >= emptyAttempts {
			// The state came from elsewhere than this log has it.
			s.begin()
			empty = 0
		}
		sleep(ctx, pause.NextBackOff())
	}
}

// advance waits for the state to go beyond the ring and brings the changes in.
// False: there were none where there should be.
func (s *Server) advance(ctx context.Context) (bool, error) {
	tip, ok := s.ring.tip()
	if !ok {
		if err := s.o.Source.WaitFor(ctx, 0); err != nil {
			return false, fmt.Errorf("wait for a state: %w", err)
		}
		return s.begin(), nil
	}
	if err := s.o.Source.WaitFor(ctx, tip.revision+1); err != nil {
		return false, fmt.Errorf("wait for revision %d: %w", tip.revision+1, err)
	}
	changes, err := s.o.Source.Changes(ctx, tip.revision, logBatch)
	if err != nil {
		return false, fmt.Errorf("read the log after revision %d: %w", tip.revision, err)
	}
	for _, c := range changes {
		if err := c.Follows(tip.revision, tip.hash); err != nil {
			s.o.Logger.LogAttrs(ctx, slog.LevelWarn, "feed history was replaced, every sidecar of the old one gets a snapshot", slog.Any("error", err))
			return s.begin(), nil
		}
		e, err := newEntry(tip, c, s.seals(), wire.Modes...)
		if err != nil {
			// Nobody could be told of this revision by a change: a snapshot can.
			s.begin()
			return false, fmt.Errorf("encode revision %d: %w", c.Revision, err)
		}
		s.ring.add(e)
		tip = e.after
	}
	return len(changes) > 0, nil
}

// seals is what changes are sealed with.
func (s *Server) seals() sealWith {
	return sealWith{s.o.Signer, s.o.Source.State().Platform()}
}

// begin lets the ring begin anew at the source's state; false: there is none.
func (s *Server) begin() bool {
	state := s.o.Source.State()
	if state == nil {
		return false
	}
	s.ring.restart(placeOf(state))
	return true
}

var errLogTooFar = errors.New("the place is too far behind")

// readLog is what the log has after p, at most [logBatch] changes. An error says
// that a snapshot must serve: p is not in the log's history, too far behind, or the
// log is out of reach.
func (s *Server) readLog(ctx context.Context, p place) ([]policies.Change, error) {
	if tip, _ := s.ring.tip(); tip.revision.Epoch() == p.revision.Epoch() && tip.revision > p.revision+policies.Revision(s.o.MaxReplay) {
		return nil, errLogTooFar
	}
	changes, err := s.log(ctx, p.revision, logBatch)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return nil, fmt.Errorf("the log ends at or before revision %d", p.revision)
	}
	return changes, changes[0].Follows(p.revision, p.hash)
}

// log reads the log within [logTimeout], together with few others.
func (s *Server) log(ctx context.Context, after policies.Revision, limit int) ([]policies.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	select {
	case s.logs <- struct{}{}:
		defer func() { <-s.logs }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.metrics.logReads.Inc()
	return s.o.Source.Changes(ctx, after, limit)
}

// horizon is the place from which a sidecar on demand that begins at state gets to
// hear what changed: replay revisions back, in the same epoch, as far as ring and log
// reach.
func (s *Server) horizon(ctx context.Context, state *authz.State, replay int) place {
	now := placeOf(state)
	if replay == 0 {
		return now
	}
	want := policies.NewRevision(now.revision.Epoch(), now.revision.Count()-min(now.revision.Count(), uint64(replay)))
	fits := func(p place) bool { return p.revision.Epoch() == now.revision.Epoch() && p.revision <= now.revision }
	p, ok := s.ring.before(want)
	if ok && p.revision == want {
		return p
	}
	// The revision after the one that is wanted, whose own hash the log has.
	if changes, err := s.log(ctx, want, 1); err == nil && len(changes) == 1 {
		if c := (place{changes[0].Revision, changes[0].Hash}); fits(c) {
			return c
		}
	}
	if fits(p) {
		return p
	}
	return now
}

// sleep waits for d or for ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
