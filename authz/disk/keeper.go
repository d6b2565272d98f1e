package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// The defaults of [Options].
const (
	// DefaultInterval is how long after a change a snapshot is begun at the latest.
	DefaultInterval = 30 * time.Second
	// DefaultConfirmInterval is how often a heartbeat is kept while nothing changes.
	DefaultConfirmInterval = 5 * time.Second

	// lastTimeout bounds the last snapshot of a process: with the seconds of a large
	// platform it is in time, and a disk that hangs holds nobody up for longer.
	lastTimeout = 10 * time.Second
)

// Options configures a [Keeper].
type Options struct {
	Dir string // made if it is not there; required
	Key []byte // see [Key]; required
	// State is the present state; nil: none yet.
	State func() *authz.State
	// Verifier verifies heartbeats; nil: they are trusted.
	Verifier *signing.Verifier

	Interval        time.Duration // default [DefaultInterval]
	ConfirmInterval time.Duration // default [DefaultConfirmInterval]

	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Keeper writes a sidecar's state to disk and reads it at the start. Load comes before
// Run; Confirm may be called from any goroutine.
type Keeper struct {
	o       Options
	metrics *metrics

	mu    sync.Mutex
	beat  *feed.Heartbeat // the last one that named the state that was present then
	state *authz.State    // that state

	// Load's and Run's own.
	written authz.Header // what is on disk
	kept    time.Time    // the time of the heartbeat on disk
	failing bool         // one log line for each outage
}

// New makes a keeper. The error says what is missing, or which metric is registered
// already.
func New(o Options) (*Keeper, error) {
	if o.Dir == "" || len(o.Key) == 0 || o.State == nil {
		return nil, errors.New("a keeper needs a directory, a key and a state")
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.ConfirmInterval == 0 {
		o.ConfirmInterval = DefaultConfirmInterval
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Keeper{o: o, metrics: m}, nil
}

// Kept is what a keeper found on disk.
type Kept struct {
	State *authz.State
	// Confirmed is the heartbeat that last named the state's revision; nil: nobody
	// knows when it was the present one.
	Confirmed *feed.Heartbeat
}

// Load reads what is on disk; nothing if there is nothing good, which is logged.
func (k *Keeper) Load(ctx context.Context) Kept {
	begun := time.Now()
	k.sweep(ctx)
	s, err := readSnapshot(ctx, k.o.Dir, k.o.Key)
	if errors.Is(err, fs.ErrNotExist) {
		k.metrics.loads.WithLabelValues("none").Inc()
		return Kept{}
	}
	if err != nil {
		k.metrics.loads.WithLabelValues("refused").Inc()
		k.o.Logger.LogAttrs(ctx, slog.LevelError, "snapshot on disk refused, the next one comes from the admin server",
			slog.String("file", filepath.Join(k.o.Dir, snapshotFile)), slog.Any("error", err))
		return Kept{}
	}
	kept := Kept{State: s}
	k.written = s.Header()
	kept.Confirmed, err = readConfirmed(k.o.Dir, k.o.Key, s.Header(), k.o.Verifier)
	if err != nil {
		k.o.Logger.LogAttrs(ctx, slog.LevelWarn, "snapshot on disk has no confirmation, it is good for catching up only",
			slog.String("file", filepath.Join(k.o.Dir, confirmedFile)), slog.Any("error", err))
	} else {
		k.kept = kept.Confirmed.Time
		k.metrics.confirmed.Set(float64(k.kept.Unix()))
	}
	k.metrics.loads.WithLabelValues("good").Inc()
	k.metrics.revision.Set(float64(s.Revision()))
	k.o.Logger.LogAttrs(ctx, slog.LevelInfo, "snapshot on disk in force",
		slog.Uint64("revision", uint64(s.Revision())), slog.Duration("took", time.Since(begun)))
	return kept
}

// sweep removes what a killed process left half written.
func (k *Keeper) sweep(ctx context.Context) {
	entries, err := os.ReadDir(k.o.Dir)
	if err != nil {
		return // there is nothing, or writing will tell
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+snapshotFile+"-") || strings.HasPrefix(e.Name(), "."+confirmedFile+"-") {
			if err := os.Remove(filepath.Join(k.o.Dir, e.Name())); err != nil {
				k.o.Logger.LogAttrs(ctx, slog.LevelWarn, "a half-written snapshot cannot be removed", slog.Any("error", err))
			}
		}
	}
}

// Confirm takes a verified heartbeat that names the present state, while that is the
// present one: only such a state is worth keeping.
func (k *Keeper) Confirm(h *feed.Heartbeat) {
	s := k.o.State()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.beat, k.state = h, s
}

func (k *Keeper) last() (*feed.Heartbeat, *authz.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.beat, k.state
}

// Confirmed is the revision of the newest state that is worth keeping; 0: none yet.
func (k *Keeper) Confirmed() policies.Revision {
	_, s := k.last()
	if s == nil {
		return 0
	}
	return s.Revision()
}

// Run keeps the disk up to date until ctx ends, and then once more, for a bounded time.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(min(k.o.Interval, k.o.ConfirmInterval))
	defer tick.Stop()
	var last time.Time // when the last attempt at a snapshot ended
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
			defer cancel()
			k.keep(last, true, false)
			return
		case <-tick.C:
			due := last.IsZero() || time.Since(last) >= k.o.Interval
			if k.keep(ctx, due, true) {
				last = time.Now()
			}
		}
	}
}

// keep writes the state, if it is another one and that is due, and the heartbeat that
// confirms what is on disk. True: it tried to write the state.
func (k *Keeper) keep(ctx context.Context, due, atEase bool) (tried bool) {
	beat, s := k.last()
	if s == nil || !names(beat, s.Header()) {
		return false
	}
	var err error
	if s.Header() != k.written {
		if !due {
			return false
		}
		tried = true
		err = k.snapshot(ctx, s, atEase)
	}
	if err == nil && beat.Time.After(k.kept) {
		if err = writeConfirmed(k.o.Dir, k.o.Key, beat); err == nil {
			k.kept = beat.Time
			k.metrics.confirmed.Set(float64(beat.Time.Unix()))
		}
	}
	if !errors.Is(err, context.Canceled) { // else it is written at once instead
		k.outcome(ctx, err)
	}
	return tried
}

func (k *Keeper) snapshot(ctx context.Context, s *authz.State, atEase bool) error {
	if err := os.MkdirAll(k.o.Dir, 0o700); err != nil {
		k.metrics.writes.WithLabelValues("failed").Inc()
		return err
	}
	atEase = atEase && k.written != (authz.Header{}) // the first one is wanted soon
	if err := writeSnapshot(ctx, k.o.Dir, k.o.Key, s, k.o.Clock(), atEase); err != nil {
		if !errors.Is(err, context.Canceled) {
			k.metrics.writes.WithLabelValues("failed").Inc()
		}
		return err
	}
	k.written, k.kept = s.Header(), time.Time{}
	k.metrics.writes.WithLabelValues("good").Inc()
	k.metrics.revision.Set(float64(s.Revision()))
	return nil
}

// outcome logs the beginning and the end of an outage.
func (k *Keeper) outcome(ctx context.Context, err error) {
	switch {
	case err != nil && !k.failing:
		k.o.Logger.LogAttrs(ctx, slog.LevelError, "snapshot cannot be kept on disk, the last one stays, and it is tried again",
			slog.String("dir", k.o.Dir), slog.Any("error", err))
	case err == nil && k.failing:
		k.o.Logger.LogAttrs(ctx, slog.LevelInfo, "snapshot is kept on disk again", slog.String("dir", k.o.Dir))
	}
	k.failing = err != nil
}

// names tells whether h is about the state at.
func names(h *feed.Heartbeat, at authz.Header) bool {
	return h.Platform == at.Platform && h.Revision == at.Revision && h.Hash == at.Hash
}

type metrics struct {
	writes, loads       *prometheus.CounterVec
	revision, confirmed prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_snapshot_writes_total", Help: "Snapshots written to disk, by outcome. Any that failed is bad: a restart would begin with an old one.",
		}, []string{"outcome"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_snapshot_loads_total", Help: "Snapshots looked for on disk at the start, by outcome: good, none, refused. Refused is bad.",
		}, []string{"outcome"}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_snapshot_revision", Help: "The revision of the snapshot on disk; 0: there is none.",
		}),
		confirmed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_snapshot_confirmed_timestamp_seconds", Help: "When the snapshot on disk was last known to be the platform's present state.",
		}),
	}
	for _, outcome := range []string{"good", "failed"} {
		m.writes.WithLabelValues(outcome) // an alert needs the zero before the first
	}
	for _, outcome := range []string{"good", "none", "refused"} {
		m.loads.WithLabelValues(outcome)
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.writes, m.loads, m.revision, m.confirmed} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register the metrics of the snapshot on disk: %w", err))
		}
	}
	return m, errors.Join(errs...)
}
