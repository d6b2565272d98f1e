package bundles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// built is a bundle, ready to be sent. It is immutable.
type built struct {
	version version
	body    []byte
	at      time.Time // when its state was taken
}

// builder keeps the newest bundle and builds the next, one at a time. Whoever
// finds that one is needed builds it in its own goroutine; the others wait.
type builder struct {
	source  Source
	key     *signing.Key // nil: bundles are not signed
	logger  *slog.Logger
	metrics *metrics

	mu      sync.Mutex
	latest  *built
	running *run
}

// run is a build under way.
type run struct {
	done   chan struct{}
	result *built // once done is closed, as err
	err    error
}

// last is the newest bundle, nil if there is none yet.
func (b *builder) last() *built {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest
}

// atLeast is the newest bundle if it is of revision rev or a later one, else it
// has one built. The source's state must have reached rev. Errors are those of
// [builder.join].
func (b *builder) atLeast(ctx context.Context, rev policies.Revision) (*built, error) {
	bundle := b.last()
	for bundle == nil || bundle.version.revision < rev {
		var err error
		if bundle, err = b.join(ctx, bundle); err != nil {
			return nil, err
		}
	}
	return bundle, nil
}

// join waits for the build under way, or else builds the present state, unless
// another bundle than seen is there by now: then that is what was to be built. It
// returns what the build failed with, or the error of a ctx that ends while it
// waits for another's build.
func (b *builder) join(ctx context.Context, seen *built) (*built, error) {
	b.mu.Lock()
	if b.latest != seen {
		defer b.mu.Unlock()
		return b.latest, nil
	}
	r := b.running
	if r == nil {
		r = &run{done: make(chan struct{})}
		b.running = r
		b.mu.Unlock()
		b.build(r)
		return r.result, r.err
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// build ends r, whatever happens.
func (b *builder) build(r *run) {
	begin := time.Now()
	r.err = errors.New("the building of a bundle was broken off") // by a panic
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if r.err == nil {
			b.latest = r.result
		}
		b.running = nil
		close(r.done)
	}()
	state := b.source.State()
	var body bytes.Buffer
	if err := policies.WriteSignedBundle(&body, state, b.key); err != nil {
		b.metrics.failures.Inc()
		// Only its text: a bundle over the limits is our fault, not a request that
		// is too large.
		r.err = fmt.Errorf("build the bundle of revision %d: %s", state.Revision(), err.Error())
		return
	}
	r.result, r.err = &built{version: versionOf(state, b.key), body: bytes.Clone(body.Bytes()), at: begin}, nil
	took := time.Since(begin)
	b.metrics.builds.Observe(took.Seconds())
	b.metrics.size.Set(float64(body.Len()))
	b.logger.Debug("built a bundle", slog.String("revision", state.Revision().String()),
		slog.Int("bytes", body.Len()), slog.Duration("took", took))
}
