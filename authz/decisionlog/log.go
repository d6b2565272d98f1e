package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// The defaults of [Options].
const (
	DefaultBuffer      = 10_000
	DefaultFileSize    = 100 // megabytes
	DefaultFileBackups = 5
)

const (
	// drainInterval is how often the ring is looked at.
	drainInterval = 200 * time.Millisecond
	// drainSize is how many records are taken at once.
	drainSize = 256
)

// Options configure a [Log]. At least one of Console, File and URL must be given.
type Options struct {
	// Labels name whoever decides; "id" must be among them.
	Labels map[string]string

	Console io.Writer // an event a line; nil: none
	File    string    // an event a line; empty: none
	// FileSize is at how many megabytes a new file is begun, FileBackups how many old
	// ones are kept.
	FileSize, FileBackups int
	// URL takes what OPA sends: POST, a JSON array, gzipped; empty: none.
	URL   string
	Token string // the bearer token for URL; empty: none

	// Sample is the share of allows that are logged, from 0 to 1. Denials always are.
	Sample float64
	// Buffer is how many decisions wait at most; default [DefaultBuffer].
	Buffer int
	Rules  *Rules // nil: none

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Validate reports every problem of o at once.
func (o Options) Validate() error {
	var errs []error
	if o.Console == nil && o.File == "" && o.URL == "" {
		errs = append(errs, errors.New("a decision log needs somewhere to go"))
	}
	if !(o.Sample >= 0 && o.Sample <= 1) {
		errs = append(errs, errors.New("the share of allows that are logged must be from 0 to 1"))
	}
	if o.Buffer < 0 || o.FileSize < 0 || o.FileBackups < 0 {
		errs = append(errs, errors.New("a size of the decision log is negative"))
	}
	if o.URL != "" {
		errs = append(errs, checkURL(o.URL))
	}
	return errors.Join(errs...)
}

// Log is a decision log. Wrap deciders with it, and have Run run.
type Log struct {
	options Options
	labels  []byte
	ring    *ring
	metrics *metrics
	file    *lumberjack.Logger
	upload  *uploader
	warned  map[string]time.Time // what an operator was told of, and when
}

// New makes a log. The error is that of [Options.Validate], or of metrics that are
// registered already.
func New(o Options) (*Log, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.FileSize == 0 {
		o.FileSize = DefaultFileSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{options: o, ring: newRing(o.Buffer), warned: map[string]time.Time{}}
	var err error
	if l.labels, err = json.Marshal(o.Labels, json.Deterministic(true)); err != nil {
		return nil, fmt.Errorf("encode the labels of the decision log: %w", err)
	}
	if l.metrics, err = newMetrics(o.Registerer, l.ring); err != nil {
		return nil, fmt.Errorf("register the metrics of the decision log: %w", err)
	}
	if o.File != "" {
		l.file = &lumberjack.Logger{Filename: o.File, MaxSize: o.FileSize, MaxBackups: o.FileBackups}
	}
	if o.URL != "" {
		l.upload = newUploader(o.URL, o.Token, o.Logger, l.metrics)
	}
	return l, nil
}

// Wrap is d with its decisions logged.
func (l *Log) Wrap(d authz.Decider) authz.Decider { return logged{d, l} }

type logged struct {
	authz.Decider

	log *Log
}

// Check implements [authz.Decider].
func (d logged) Check(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error) {
	begun := time.Now()
	decision, err := d.Decider.Check(ctx, atLeast, q)
	if err == nil && q.SubjectType != "" { // nobody's question stands for none
		d.log.add(begun, time.Since(begun), &q, &decision)
	}
	return decision, err
}

// Decide implements [authz.Decider].
func (d logged) Decide(ctx context.Context, atLeast policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	begun := time.Now()
	decisions, err := d.Decider.Decide(ctx, atLeast, questions)
	took := time.Since(begun)
	for i := range decisions {
		if err == nil && i < len(questions) {
			d.log.add(begun, took, &questions[i], &decisions[i])
		}
	}
	return decisions, err
}

func (l *Log) add(at time.Time, took time.Duration, q *authz.Question, d *authz.Decision) {
	if d.Allow && l.options.Sample < 1 && rand.Float64() >= l.options.Sample { //nolint:gosec // sampling is no secret
		l.metrics.sampledOut.Inc()
		return
	}
	if !l.ring.push(at, took, q, d) {
		l.metrics.bufferFull.Inc()
	}
}

// Run writes what is logged until ctx ends, and then what is left, for a moment. It
// is called once.
func (l *Log) Run(ctx context.Context) {
	var sending sync.WaitGroup
	if l.upload != nil {
		sending.Go(func() { l.upload.run(ctx) })
	}
	records := make([]record, drainSize)
	ticker := time.NewTicker(drainInterval)
	defer ticker.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		case <-l.ring.wake:
		}
		l.drain(context.WithoutCancel(ctx), records)
	}
	if l.upload != nil {
		l.upload.finish()
	}
	sending.Wait()
	if l.file != nil {
		_ = l.file.Close()
	}
}

// drain writes all that is in the ring.
func (l *Log) drain(ctx context.Context, records []record) {
	for {
		n := l.ring.take(records)
		for i := range n {
			l.write(ctx, &records[i])
			records[i] = record{bytes: records[i].bytes} // nothing of it is kept alive
		}
		if n < len(records) {
			break
		}
	}
	if l.upload != nil {
		l.upload.idle()
	}
}

func (l *Log) write(ctx context.Context, r *record) {
	event := appendEvent(nil, l.labels, r)
	if l.options.Rules != nil {
		ruled, err := l.options.Rules.apply(ctx, event)
		if err != nil {
			l.metrics.rulesFailed.Inc()
			l.warn("a decision is not logged: the rules of the decision log failed", err)
			return
		}
		if ruled == nil {
			l.metrics.byRule.Inc()
			return
		}
		event = ruled
	}
	line := slices.Concat(event, []byte{'\n'})
	for _, to := range l.writers() {
		if _, err := to.Write(line); err != nil {
			l.metrics.writeFailed.Inc()
			l.warn("a decision could not be written", err)
		}
	}
	if l.upload != nil {
		l.upload.add(event)
	}
	l.metrics.logged.Inc()
}

func (l *Log) writers() []io.Writer {
	var all []io.Writer
	if l.options.Console != nil {
		all = append(all, l.options.Console)
	}
	if l.file != nil {
		all = append(all, l.file)
	}
	return all
}

// warnInterval is how often an operator is told of the same thing.
const warnInterval = time.Minute

func (l *Log) warn(message string, err error) {
	if time.Since(l.warned[message]) < warnInterval {
		return
	}
	l.warned[message] = time.Now()
	l.options.Logger.Warn("decision log: "+message, "error", err) //nolint:sloglint // the message is one of a few constants
}
