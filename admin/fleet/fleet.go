package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/store"
	wire "github.com/usher-authz/usher/authz/feed"
)

const (
	// gathering is how long after the first report they are written: a fleet reports
	// about the same time.
	gathering = 50 * time.Millisecond

	// maxSidecars bounds what is gathered while nothing can be written.
	maxSidecars  = 10_000
	dropEvery    = 30 * time.Second
	writeTimeout = 5 * time.Second
	scrapeLimit  = 2 * time.Second
)

// modes are the words of the feed's modes for people.
var modes = map[wire.Mode]string{wire.ModeResident: "resident", wire.ModeNotices: "on-demand"}

// Options are what a [Fleet] needs. Store is required.
type Options struct {
	Store      *store.Store
	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Fleet gathers the reports that come to one replica. Take may be called from any
// number of goroutines.
type Fleet struct {
	o       Options
	failing bool // of Run: one log line for each outage

	mu      sync.Mutex
	reports map[string]store.SidecarReport // that are not written yet, by sidecar
	wake    chan struct{}
}

// New makes a fleet. The error says which metric is registered already.
func New(o Options) (*Fleet, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o, reports: map[string]store.SidecarReport{}, wake: make(chan struct{}, 1)}
	if o.Registerer == nil {
		return f, nil
	}
	if err := o.Registerer.Register(newCollector(o.Store)); err != nil {
		return nil, fmt.Errorf("register the metrics of the fleet: %w", err)
	}
	return f, nil
}

// ErrFull says that too many sidecars have reported what could not be written yet.
var ErrFull = errors.New("reports of too many sidecars wait to be written")

// Take takes a report that is valid and came from address. The error is [ErrFull].
func (f *Fleet) Take(r *wire.Report, address string) error {
	report := store.SidecarReport{
		Sidecar: store.Sidecar{
			ID: r.Sidecar, Name: r.Name, Version: r.Version, Mode: modes[r.Mode], Address: address,
			Revision: r.Revision, Age: r.Age, ChecksPerSecond: r.ChecksPerSecond,
		},
		Sequence: r.Sequence, Leaving: r.Leaving, At: f.o.Clock(),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, known := f.reports[r.Sidecar]
	switch {
	case known && old.Sequence >= r.Sequence:
		return nil // it was overtaken on its way
	case !known && len(f.reports) >= maxSidecars:
		return ErrFull
	}
	f.reports[r.Sidecar] = report
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return nil
}

// Run writes what is reported until ctx ends, and then what is left: a sidecar that has said
// that it stops must not count as connected because its admin server stops too.
func (f *Fleet) Run(ctx context.Context) {
	defer func() {
		last := context.WithoutCancel(ctx)
		f.outcome(last, f.write(last))
	}()
	drop := time.NewTicker(dropEvery)
	defer drop.Stop()
	for {
		select {
		case <-f.wake:
			if pause(ctx, gathering) {
				f.outcome(ctx, f.write(ctx))
			}
		case <-drop.C:
			bounded, cancel := context.WithTimeout(ctx, writeTimeout)
			f.outcome(ctx, f.o.Store.DropReports(bounded))
			cancel()
		case <-ctx.Done():
			return
		}
	}
}

// pause is false if ctx ends before it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// write writes what is new; what cannot be written waits for the next report.
func (f *Fleet) write(ctx context.Context) error {
	f.mu.Lock()
	taken := f.reports
	f.reports = make(map[string]store.SidecarReport, len(taken))
	f.mu.Unlock()
	if len(taken) == 0 { // who came last was taken with those before
		return nil
	}
	reports := make([]store.SidecarReport, 0, len(taken))
	for _, r := range taken {
		reports = append(reports, r)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := f.o.Store.PutReports(ctx, reports, f.o.Clock())
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, r := range taken {
		if newer, ok := f.reports[id]; !ok || newer.Sequence < r.Sequence {
			f.reports[id] = r
		}
	}
	return err
}

// outcome logs the beginning and the end of an outage.
func (f *Fleet) outcome(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && !f.failing:
		f.o.Logger.LogAttrs(ctx, slog.LevelWarn, "what sidecars report cannot be written, receipts lack it", slog.Any("error", err))
	case err == nil && f.failing:
		f.o.Logger.LogAttrs(ctx, slog.LevelInfo, "what sidecars report is written again")
	}
	f.failing = err != nil
}
