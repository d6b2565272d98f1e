package ondemand

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

const (
	// fillQueue is how many facts wait to be written to Redis; more are dropped, and
	// somebody else's miss writes them.
	fillQueue = 4096
	// negativeShare of the TTL is how long "no such id" stays.
	negativeShare = 10
)

// filler writes facts to Redis in the background, so that no answer waits for it.
type filler struct {
	shared  *shared
	codec   *codec
	metrics *metrics
	ttl     time.Duration
	queue   chan fill

	log      *slog.Logger
	refusals rate.Sometimes // that are logged
}

// fill is a fact on its way to Redis, or, with a nil fact, the question whether
// all before it are there (done is closed then).
type fill struct {
	key  string
	fact *fact
	done chan struct{}
}

func newFiller(s *shared, c *codec, m *metrics, ttl time.Duration, log *slog.Logger) *filler {
	return &filler{
		shared: s, codec: c, metrics: m, ttl: ttl, queue: make(chan fill, fillQueue), log: log, refusals: rate.Sometimes{Interval: time.Minute},
	}
}

// add never waits.
func (w *filler) add(key string, f *fact) {
	select {
	case w.queue <- fill{key: key, fact: f}:
	default:
		w.metrics.fills[fillDropped].Inc()
	}
}

// flush returns once all that was added before is written or given up.
func (w *filler) flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case w.queue <- fill{done: done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes until ctx ends; what waits then is lost, which harms nobody.
func (w *filler) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-w.queue:
			w.writeWith(ctx, f)
		}
	}
}

// writeWith writes first and what waits behind it, up to a batch.
func (w *filler) writeWith(ctx context.Context, first fill) {
	batch := make([]entry, 0, redisWriteBatch)
	var asked []chan struct{}
	take := func(f fill) {
		if f.fact == nil {
			asked = append(asked, f.done)
			return
		}
		if e, ok := w.encode(f); ok {
			batch = append(batch, e)
		}
	}
	take(first)
	for more := true; more && len(batch) < redisWriteBatch && len(asked) == 0; {
		select {
		case f := <-w.queue:
			take(f)
		default:
			more = false
		}
	}
	if len(batch) > 0 {
		written, refused := w.shared.write(ctx, batch)
		w.metrics.fills[fillWritten].Add(float64(written))
		w.metrics.fills[fillFailed].Add(float64(len(batch) - written))
		if refused != nil {
			w.refusals.Do(func() {
				w.log.Warn("Redis refuses what is written, and is read on: what is missing there is asked of the admin server each time", "error", refused)
			})
		}
	}
	for _, done := range asked {
		close(done)
	}
}

func (w *filler) encode(f fill) (entry, bool) {
	value, err := w.codec.encode(f.key, f.fact)
	if err != nil {
		outcome := fillFailed
		if errors.Is(err, errTooLarge) {
			outcome = fillTooLarge
		}
		w.metrics.fills[outcome].Inc()
		return entry{}, false
	}
	ttl := w.ttl
	if !f.fact.exists {
		ttl /= negativeShare
	}
	// Spread, so that what was written together does not end together.
	ttl -= time.Duration(rand.Int64N(int64(ttl)/negativeShare + 1)) //nolint:gosec // spreads only
	return entry{key: f.key, value: value, ttl: max(ttl, time.Second)}, true
}
