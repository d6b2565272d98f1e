package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/usher-authz/usher/policies"
)

// Client follows the feed of an admin server into a sink, for as long as Run runs,
// through whatever happens to the connection. Methods but Run may be called from any
// number of goroutines.
type Client struct {
	o         Options
	transport *http.Transport
	receiver  receiver
	progress  *progress
	metrics   *metrics
	running   atomic.Bool
	// witness is the last heartbeat or seal that was verified, witnessed its revision; of
	// Run's goroutine.
	witness   Frame
	witnessed policies.Revision
}

// receiver is a mode's half of the client: what becomes of the frames.
type receiver interface {
	mode() Mode
	// position is where to resume; false: nowhere, ask for a snapshot.
	position() (Position, bool)
	// floor is the revision behind which the feed may not go; false: none.
	floor() (Position, bool)
	begin(s *Snapshot) error
	add(o policies.Object) error
	// finish swaps in what begin and add built.
	finish(ctx context.Context) error
	// drop forgets what was begun.
	drop()
	change(ctx context.Context, c policies.Change) error
	notice(n *Notice) error
	observe(t time.Time)
}

// New makes a client; it connects when it runs. The error is that of
// [Options.Validate], or says which metric is registered already.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c := &Client{o: o, transport: newTransport(o)}
	if o.Witness != nil {
		c.witness, c.witnessed = o.Witness, o.Witness.Revision
	}
	if o.Sink != nil {
		c.receiver = &resident{sink: o.Sink}
	} else {
		c.receiver = &onDemand{sink: o.Notices}
	}
	c.progress = newProgress(o.Clock)
	if p, ok := c.receiver.position(); ok {
		floor, _ := c.receiver.floor()
		c.progress.applied(p, floor)
	}
	var err error
	if c.metrics, err = newMetrics(o.Registerer, c.progress); err != nil {
		return nil, err
	}
	return c, nil
}

// Run follows the feed until ctx ends, and then returns nil. It returns an error
// only if the client runs already.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("the feed client runs already")
	}
	defer c.running.Store(false)
	defer c.transport.CloseIdleConnections()
	if c.o.Self != nil {
		var reports sync.WaitGroup
		reports.Go(func() { newReporter(c).run(ctx) })
		defer reports.Wait()
	}
	pause := &backoff.ExponentialBackOff{
		InitialInterval: c.o.RetryMin, MaxInterval: c.o.RetryMax,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	for ctx.Err() == nil {
		begun := time.Now()
		good, err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var refused *RefusedError
		if good && (!errors.As(err, &refused) || time.Since(begun) >= steady) {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		var status *StatusError
		if errors.As(err, &status) {
			wait = max(wait, min(status.RetryAfter, c.o.RetryMax))
		}
		c.lost(ctx, err, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// lost counts and logs the end of a connection.
func (c *Client) lost(ctx context.Context, err error, wait time.Duration) {
	revision := c.progress.revision()
	attrs := []slog.Attr{
		slog.Any("error", err), slog.Uint64("revision", uint64(revision)), slog.Duration("retry_in", wait),
	}
	var refused *RefusedError
	var status *StatusError
	level, message, cause := slog.LevelWarn, "feed connection failed", "failed"
	_ = errors.As(err, &status) // within a refusal too
	switch {
	case errors.As(err, &refused):
		c.metrics.refusals.WithLabelValues(string(refused.Kind)).Inc()
		c.progress.refused(refused.Kind)
		attrs = append(attrs, slog.String("kind", string(refused.Kind)))
		level, message, cause = slog.LevelError, "feed refused, last good state kept", "refused"
	case status != nil:
		message, cause = "feed request was answered with an error", "status"
	case errors.Is(err, errSilent):
		message, cause = "feed fell silent", "silent"
	case errors.Is(err, errEnded):
		level, message, cause = slog.LevelInfo, "feed ended by the server", "ended"
	}
	c.metrics.disconnects.WithLabelValues(cause).Inc()
	c.progress.lost(status.rejects())
	c.o.Logger.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // one of the five constants above
}

// connect opens one stream and follows it to its end. Good tells whether a
// heartbeat came over it; the error is never nil.
func (c *Client) connect(ctx context.Context) (good bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	nonce := ""
	if c.o.Verifier != nil {
		nonce = newNonce()
	}
	resp, err := c.open(ctx, nonce)
	if err != nil {
		return false, err
	}
	watch := newWatch(resp.Body, c.o.Silence, func() { cancel(errSilent) })
	defer watch.stop()
	defer func() { _ = resp.Body.Close() }()
	body, closeBody, err := decompress(resp.Header.Get("Content-Encoding"), watch)
	if err != nil {
		return false, err
	}
	defer closeBody()
	c.progress.connected(true)
	defer c.progress.connected(false)
	c.metrics.connects.Inc()
	c.o.Logger.LogAttrs(ctx, slog.LevelInfo, "feed connected", slog.String("mode", string(c.receiver.mode())))

	s := &session{c: c, nonce: nonce, watch: watch, in: NewReader(body)}
	err = s.follow(ctx)
	return s.heartbeats > 0, c.cause(ctx, err, watch, s)
}

// cause is why a stream that ended with err did, in the terms of lost.
func (c *Client) cause(ctx context.Context, err error, watch *watch, s *session) error {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case errors.Is(err, errEnded):
	case watch.err == nil, errors.Is(watch.err, io.EOF):
		// The network gave its bytes: it is the decompression that failed on them.
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return refuse(RefusedTruncated, fmt.Errorf("decompress the stream: %w", err))
		}
		return refuse(RefusedMalformed, fmt.Errorf("decompress the stream: %w", err))
	}
	if s.tally != nil {
		return refuse(RefusedTruncated, fmt.Errorf("the stream ended within a snapshot: %w", err))
	}
	return err
}
