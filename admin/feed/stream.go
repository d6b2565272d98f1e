package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

var errStopping = errors.New("the feed server stops")

// ServeFeed handles GET /v1/feed.
func (s *Server) ServeFeed(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "the feed is not served now")
		return
	}
	defer s.work.Done()
	if !s.admit(w, r, http.MethodGet) {
		return
	}
	q, err := parseQuery(r.URL.Query(), s.o.MaxReplay)
	if err != nil {
		s.refused(w, http.StatusBadRequest, problem.Malformed, err.Error())
		return
	}
	if platform := s.o.Source.State().Platform(); q.platform != "" && q.platform != platform {
		s.refused(w, http.StatusConflict, problem.OtherPlatform, fmt.Sprintf("this is platform %q", platform))
		return
	}
	if q.from != nil && !s.has(r.Context(), *q.from) && !s.witnessed(r, q.from.revision) {
		s.refused(w, http.StatusServiceUnavailable, problem.RevisionBehind,
			fmt.Sprintf("this replica has not reached revision %d", q.from.revision))
		return
	}
	s.stream(w, r, q)
}

// caughtUp waits a moment for this replica to reach revision.
func (s *Server) caughtUp(ctx context.Context, revision policies.Revision) bool {
	if s.o.Source.State().Revision() >= revision {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.CatchUpWait)
	defer cancel()
	go func() { // Stop ends the wait
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = s.o.Source.WaitFor(ctx, revision) // the state tells
	return s.o.Source.State().Revision() >= revision
}

// has tells whether this replica is where the asker is, or has gone on from there, as
// far as its state tells.
func (s *Server) has(ctx context.Context, p place) bool {
	if !s.caughtUp(ctx, p.revision) {
		return false
	}
	now := placeOf(s.o.Source.State())
	return now.revision > p.revision || now == p
}

// witnessed takes the heartbeat or seal by which the asker proves that a revision was, of
// which this replica has nothing: if the log has lost it, a new epoch begins, and the
// asker follows there. Only a signature proves: epochs are few. True: this replica is
// now at a revision after the asker's.
func (s *Server) witnessed(r *http.Request, asked policies.Revision) bool {
	if s.o.Witness != nil && s.o.Signer != nil {
		was, err := wire.ParseWitness(r.Header.Get(wire.WitnessHeader), s.o.Source.State().Platform(), s.o.Signer.Verifier())
		if err == nil && was != nil {
			err = s.o.Witness(r.Context(), was.Revision, was.Hash)
		}
		if err != nil {
			s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "a sidecar is ahead of this replica, and what it proves that by does not count",
				slog.String("remote", r.RemoteAddr), slog.Uint64("revision", uint64(asked)), slog.Any("error", err))
		}
	}
	return s.caughtUp(r.Context(), asked)
}

// stream is one connection. All but sent belongs to its handler's goroutine.
type stream struct {
	s   *Server
	q   query
	out *writer
	at  place // how far the reader is; zero: nowhere
	// fresh: at leads nowhere, and the reader needs a snapshot, of the revision least
	// or a later one.
	fresh  bool
	least  policies.Revision
	batch  []byte
	beat   time.Time     // of the last heartbeat
	sent   atomic.Uint64 // at's revision, for metrics
	ticker *time.Ticker
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, q query) {
	out, err := newWriter(w, r, s.zip, s.o.WriteTimeout, func(n int) { s.metrics.bytes.Add(float64(n)) })
	if err != nil {
		s.o.Logger.LogAttrs(r.Context(), slog.LevelError, "feed cannot be streamed", slog.Any("error", err))
		s.refused(w, http.StatusInternalServerError, problem.Internal, "")
		return
	}
	st := &stream{s: s, q: q, out: out, fresh: q.from == nil}
	if q.from != nil {
		st.reach(*q.from)
	}
	if !s.join(st) {
		w.Header().Del("Content-Encoding")
		s.refused(w, http.StatusServiceUnavailable, problem.Unavailable, "this replica has as many feed connections as it takes")
		return
	}
	defer s.leave(st)
	h := w.Header()
	h.Set("Content-Type", wire.ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold heartbeats back
	h.Set("Connection", "close")
	w.WriteHeader(http.StatusOK)

	err = st.run(r.Context())
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	switch {
	case errors.Is(err, errStopping), s.stopping():
	case errors.Is(err, os.ErrDeadlineExceeded): // before the context: net/http ends the context at a failed write
		s.metrics.dropped.Inc()
		s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "feed reader does not read, connection dropped",
			slog.String("remote", r.RemoteAddr), slog.Duration("timeout", s.o.WriteTimeout))
	case r.Context().Err() != nil:
	default:
		s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "feed connection ended", slog.String("remote", r.RemoteAddr), slog.Any("error", err))
	}
}

// run writes until the reader goes, the server stops, or a write fails. The error is
// never nil.
func (st *stream) run(ctx context.Context) error {
	st.ticker = time.NewTicker(st.s.o.Heartbeat)
	defer st.ticker.Stop()
	if err := st.heartbeat(); err != nil {
		return err
	}
	for {
		if err := st.alive(ctx); err != nil {
			return err
		}
		if err := st.step(ctx); err != nil {
			return err
		}
	}
}

// step writes what comes next, or waits for it, until the next heartbeat at the
// latest.
func (st *stream) step(ctx context.Context) error {
	if st.fresh {
		if st.s.o.Source.State().Revision() < st.least {
			return st.await(ctx)
		}
		return st.snapshot(ctx)
	}
	entries, verdict, changed := st.s.ring.next(st.at, st.q.mode, batchBytes)
	switch verdict {
	case within:
		return st.send(entries)
	case behind:
		return st.replay(ctx)
	case diverged:
		if placeOf(st.s.o.Source.State()) != st.at {
			st.restart(st.at.revision)
			return nil
		}
		// The state is still of the history that the ring has left.
		return st.wait(ctx, changed)
	case present, ahead:
	}
	return st.wait(ctx, changed)
}

// await waits for the state to be good for a snapshot.
func (st *stream) await(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, st.s.o.Heartbeat)
	defer cancel()
	_ = st.s.o.Source.WaitFor(waiting, st.least) // the next step looks
	if time.Since(st.beat) >= st.s.o.Heartbeat {
		return st.heartbeat()
	}
	return nil
}

func (st *stream) alive(ctx context.Context) error {
	if st.s.stopping() {
		return errStopping
	}
	return ctx.Err()
}

// wait returns when the ring may have more, after a heartbeat at the latest.
func (st *stream) wait(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-st.ticker.C:
		return st.heartbeat()
	case <-st.s.done:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send writes entries in one batch, those without a seal of their own under common
// ones. What a frame cannot tell is reached by a
// snapshot: a change that is too large for one, and, for a sidecar on demand, a new
// epoch, of which nothing that it knows holds.
func (st *stream) send(entries []*entry) error {
	if len(entries) == 1 && entries[0].sealed && st.out.zip != nil && st.tells(entries[0]) {
		return st.share(entries[0])
	}
	var sealer wire.Sealer
	for _, e := range entries {
		data := e.line(st.q.mode)
		if !st.tells(e) {
			st.restart(e.after.revision)
			break
		}
		st.batch = append(st.batch, data...)
		st.reach(e.after)
		if e.sealed || st.s.o.Signer == nil {
			continue
		}
		sealer.Line(data[:len(data)-1])
		if sealer.Full() {
			if err := st.seal(&sealer); err != nil {
				return err
			}
		}
	}
	if sealer.Len() > 0 {
		if err := st.seal(&sealer); err != nil {
			return err
		}
	}
	return st.push()
}

// tells whether a frame can tell e.
func (st *stream) tells(e *entry) bool {
	turn := st.q.mode == wire.ModeNotices && e.before.revision.Epoch() != e.after.revision.Epoch()
	return e.line(st.q.mode) != nil && !turn
}

// share writes e as all are sent it who wait for the next change: those are what a
// revocation waits for, and compressing it for each of them would take as long as
// signing it. The batch is empty between steps.
func (st *stream) share(e *entry) error {
	if err := st.out.writeZipped(e.zipped(st.q.mode, st.s.zip)); err != nil {
		return err
	}
	st.reach(e.after)
	if time.Since(st.beat) >= st.s.o.Heartbeat {
		return st.heartbeat()
	}
	return st.out.flush()
}

// seal adds the seal of what sealer has gathered to the batch.
func (st *stream) seal(sealer *wire.Sealer) error {
	sealed, err := st.s.seals().end(st.batch, sealer, st.at)
	if err == nil {
		st.batch = sealed
	}
	return err
}

// replay writes a batch from the log.
func (st *stream) replay(ctx context.Context) error {
	changes, err := st.s.readLog(ctx, st.at)
	if err != nil {
		st.s.o.Logger.LogAttrs(ctx, slog.LevelInfo, "feed connection gets a snapshot",
			slog.Uint64("revision", uint64(st.at.revision)), slog.Any("error", err))
		st.restart(st.at.revision)
		return nil
	}
	entries := make([]*entry, 0, len(changes))
	before := st.at
	for _, c := range changes {
		e, err := newEntry(before, c, sealWith{}, st.q.mode) // sealed together: a fleet may come back at once
		if err != nil {
			return fmt.Errorf("encode revision %d: %w", c.Revision, err)
		}
		entries = append(entries, e)
		before = e.after
	}
	return st.send(entries)
}

func (st *stream) reach(p place) {
	st.at, st.fresh = p, false
	st.sent.Store(uint64(p.revision))
}

// restart lets a snapshot of least or later come next.
func (st *stream) restart(least policies.Revision) { st.fresh, st.least = true, least }

// push writes the batch, and a heartbeat if it is time for one.
func (st *stream) push() error {
	if time.Since(st.beat) >= st.s.o.Heartbeat {
		return st.heartbeat()
	}
	if len(st.batch) == 0 {
		return nil
	}
	if _, err := st.out.Write(st.batch); err != nil {
		return err
	}
	st.batch = st.batch[:0]
	if cap(st.batch) > 4*batchBytes { // one large change must not stay for the life of the connection
		st.batch = nil
	}
	return st.out.flush()
}

// heartbeat adds a heartbeat to the batch and writes it. It names the source's
// state, or what this connection was told already, if that is newer.
func (st *stream) heartbeat() error {
	state := st.s.o.Source.State()
	now := placeOf(state)
	if st.at.revision > now.revision {
		now = st.at
	}
	beat := &wire.Heartbeat{
		Platform: state.Platform(), Revision: now.revision, Hash: now.hash, Time: st.s.o.Clock().UTC(), Nonce: st.q.nonce,
	}
	if err := beat.Sign(st.s.o.Signer); err != nil {
		return err
	}
	if err := st.frame(beat); err != nil {
		return err
	}
	st.beat = time.Now()
	return st.push()
}

// frame adds f to the batch, and leaves its line there.
func (st *stream) frame(f wire.Frame) error {
	var err error
	if st.batch, err = wire.AppendFrame(st.batch, f); err != nil {
		return err
	}
	st.batch = append(st.batch, '\n')
	return nil
}

// tallied adds f to the batch and calls tally with its line.
func (st *stream) tallied(f wire.Frame, tally func(line []byte)) error {
	start := len(st.batch)
	if err := st.frame(f); err != nil {
		return err
	}
	tally(st.batch[start : len(st.batch)-1])
	return nil
}

// snapshot writes the present state, or what of it a sidecar on demand holds, with
// heartbeats between its batches.
func (st *stream) snapshot(ctx context.Context) error {
	state := st.s.o.Source.State()
	now := placeOf(state)
	header := &wire.Snapshot{Platform: state.Platform(), Revision: now.revision, Hash: now.hash, Time: st.s.o.Clock().UTC()}
	then := now
	if st.q.mode == wire.ModeNotices {
		then = st.s.horizon(ctx, state, st.q.replay)
		header.After, header.AfterHash = then.revision, then.hash
	}
	var tally *wire.Tally
	if err := st.tallied(header, func(line []byte) { tally = wire.NewTally(line) }); err != nil {
		return err
	}
	if err := st.objects(ctx, state, tally); err != nil {
		return err
	}
	end := tally.End()
	if err := end.Sign(st.s.o.Signer, state.Platform(), st.q.mode); err != nil {
		return err
	}
	if err := st.frame(end); err != nil {
		return err
	}
	st.s.metrics.snapshots.Inc()
	st.reach(then)
	return st.push()
}

func (st *stream) objects(ctx context.Context, state *authz.State, tally *wire.Tally) error {
	var frame wire.Object // one for all
	for o, err := range state.Objects() {
		if err != nil {
			return fmt.Errorf("take a snapshot of revision %d: %w", state.Revision(), err)
		}
		if st.q.mode == wire.ModeNotices && o.Kind != policies.KindPolicyInForce && o.Kind != policies.KindToken {
			return nil // they come first
		}
		frame.Object = o
		if err := st.tallied(&frame, tally.Object); err != nil {
			return err
		}
		if len(st.batch) < batchBytes {
			continue
		}
		if err := st.push(); err != nil {
			return err
		}
		if err := st.alive(ctx); err != nil {
			return err
		}
	}
	return nil
}
