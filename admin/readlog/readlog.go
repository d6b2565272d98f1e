// Package readlog writes down who read other people's permissions. A read does not
// wait for that: it is put into a bounded queue, which is written in batches. What finds
// no room, or cannot be written, is counted and logged, and the read is answered all the
// same: so the log of reads may lack the last second before a crash, where the log of
// changes lacks nothing.
package readlog

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/store"
)

const (
	// DefaultRetention is how long reads are kept.
	DefaultRetention = 90 * 24 * time.Hour

	queueLength  = 4096
	batchLength  = 256
	flushEvery   = time.Second
	dropEvery    = time.Hour
	writeTimeout = 10 * time.Second
)

// Options are what a [Log] needs. Store is required.
type Options struct {
	Store *store.Store
	// Retention is [DefaultRetention] if 0; not less than store.MinReadRetention.
	Retention  time.Duration
	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Log is a queue and its writer.
type Log struct {
	options Options
	queue   chan store.Read
	written *prometheus.CounterVec
	stop    context.CancelFunc
	work    sync.WaitGroup
	failing bool // of the writer: one line for each outage
}

// New makes a log that is not written yet.
func New(o Options) (*Log, error) {
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{options: o, queue: make(chan store.Read, queueLength), written: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_admin_reads_logged_total",
		Help: "Reads of other people's permissions, by whether they were written down: lost ones are bad.",
	}, []string{"outcome"})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(l.written); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Note takes a read, and never waits. It may be called from any goroutine.
func (l *Log) Note(r store.Read) {
	r.At = l.options.Clock()
	select {
	case l.queue <- r:
	default:
		l.written.WithLabelValues("lost").Inc()
	}
}

// Start begins to write.
func (l *Log) Start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.work.Go(func() { l.run(ctx) })
}

// Stop writes what is in the queue, and ends.
func (l *Log) Stop(context.Context) error {
	l.stop()
	l.work.Wait() // one write, which is bounded
	return nil
}

func (l *Log) run(ctx context.Context) {
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	drop := time.NewTicker(dropEvery)
	defer drop.Stop()
	l.drop(ctx)
	var batch []store.Read
	for {
		select {
		case r := <-l.queue:
			if batch = append(batch, r); len(batch) < batchLength {
				continue
			}
		case <-flush.C:
		case <-drop.C:
			l.drop(ctx)
		case <-ctx.Done():
			for len(l.queue) > 0 {
				batch = append(batch, <-l.queue)
			}
			l.write(context.WithoutCancel(ctx), batch)
			return
		}
		l.write(ctx, batch)
		batch = batch[:0]
	}
}

func (l *Log) write(ctx context.Context, batch []store.Read) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := l.options.Store.LogReads(ctx, batch)
	if err == nil {
		l.failing = false
		l.written.WithLabelValues("written").Add(float64(len(batch)))
		return
	}
	l.written.WithLabelValues("lost").Add(float64(len(batch)))
	if !l.failing {
		l.options.Logger.WarnContext(ctx, "reads could not be written down, and are lost", "count", len(batch), "error", err)
	}
	l.failing = true
}

// drop takes away what is older than the retention.
func (l *Log) drop(ctx context.Context) {
	before := l.options.Clock().Add(-l.options.Retention)
	for {
		bounded, cancel := context.WithTimeout(ctx, writeTimeout)
		more, err := l.options.Store.DropReads(bounded, before)
		cancel()
		if err != nil && ctx.Err() == nil {
			l.options.Logger.WarnContext(ctx, "old reads could not be dropped", "error", err)
		}
		if err != nil || !more {
			return
		}
	}
}
