package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// target is one way to ask one server.
type target struct {
	name     string
	server   *child
	address  string // of the server, or of its socket
	requests [][]byte
	checks   int // in a request
	right    func(i int, body []byte) bool

	asked     atomic.Int64 // so far
	latencies []time.Duration
	errors    int
	wrong     int
	firstBad  string
	elapsed   time.Duration
	processor time.Duration
	unknown   error // why processor is not known
}

// worker is one connection's share of a round.
type worker struct {
	latencies     []time.Duration
	errors, wrong int
	firstBad      string
}

const (
	roundTime  = time.Second
	turnTime   = roundTime / 5 // at each door of each sidecar while grants change
	maxInWrong = 300           // bytes of a wrong answer that are shown
)

// load asks all targets with this many connections each, in turns of a second, until
// each was asked for d.
func load(ctx context.Context, connections int, d time.Duration, targets ...*target) error {
	for spent := time.Duration(0); spent < d; spent += roundTime {
		for _, t := range targets {
			if err := t.round(ctx, connections, min(roundTime, d-spent)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *target) round(ctx context.Context, connections int, d time.Duration) error {
	before, unknown := t.server.processorTime()
	began := time.Now()
	workers := make([]worker, connections)
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() { workers[i].ask(ctx, t, began.Add(d)) })
	}
	wait.Wait()
	t.elapsed += time.Since(began)
	after, err := t.server.processorTime()
	t.processor += after - before
	t.unknown = errors.Join(t.unknown, unknown, err)
	for _, w := range workers {
		t.latencies = append(t.latencies, w.latencies...)
		t.asked.Add(int64(len(w.latencies)))
		t.errors += w.errors
		t.wrong += w.wrong
		t.firstBad = cmp.Or(t.firstBad, w.firstBad)
	}
	return ctx.Err()
}

// ask asks one request after the other, from a random one on, until the time is up.
func (w *worker) ask(ctx context.Context, t *target, until time.Time) {
	c, err := dial(ctx, t.address)
	if err != nil {
		if ctx.Err() == nil { // else it was enough
			w.fail(err)
		}
		return
	}
	defer func() { c.close() }()
	known := make(seen, len(t.requests))
	at := rand.IntN(len(t.requests)) //nolint:gosec // where to begin is no secret
	for ; ctx.Err() == nil; at = (at + 1) % len(t.requests) {
		began := time.Now()
		if began.After(until) {
			return
		}
		body, err := c.do(t.requests[at])
		if err != nil {
			w.fail(err)
			c.close()
			if c, err = dial(ctx, t.address); err != nil {
				w.fail(err)
				return
			}
			continue
		}
		w.latencies = append(w.latencies, time.Since(began))
		switch {
		case known.matches(at, body):
		case t.right(at, body):
			known.remember(at, body)
		default:
			w.wrong++
			w.firstBad = cmp.Or(w.firstBad, fmt.Sprintf("wrong: %.*s", maxInWrong, body))
		}
	}
}

func (w *worker) fail(err error) {
	w.errors++
	w.firstBad = cmp.Or(w.firstBad, err.Error())
}

// Load is what a load found. Times are in microseconds.
type Load struct {
	Name         string  `json:"name"`
	Checks       int     `json:"checks"`
	Errors       int     `json:"errors"`
	Wrong        int     `json:"wrong"`
	ChecksPerSec float64 `json:"checks_per_second"`
	P50          float64 `json:"p50_us"`
	P99          float64 `json:"p99_us"`
	P999         float64 `json:"p999_us"`
	// Histogram is of the time of all requests, from the first bucket that has one to
	// the last.
	Histogram []Bucket `json:"histogram"`
	// CPU is the server's processor time a request, nil where it cannot be read;
	// OfFloor what that is of the floor's.
	CPU     *float64 `json:"server_cpu_us"`
	OfFloor *float64 `json:"of_floor"`
}

// Bucket is how many requests took as long as its bound at most, and longer than the
// bucket before.
type Bucket struct {
	UpTo     float64 `json:"up_to_us"`
	Requests int     `json:"requests"`
}

// found sums t up, beside its floor if it has one.
func (t *target) found(floor *target) Load {
	slices.Sort(t.latencies)
	l := Load{
		Name: t.name, Checks: len(t.latencies) * t.checks, Errors: t.errors, Wrong: t.wrong,
		P50: quantile(t.latencies, 0.5), P99: quantile(t.latencies, 0.99), P999: quantile(t.latencies, 0.999),
		Histogram: histogram(t.latencies),
	}
	if t.elapsed > 0 {
		l.ChecksPerSec = float64(l.Checks) / t.elapsed.Seconds()
	}
	l.CPU = t.perRequest()
	if floor != nil && l.CPU != nil {
		if least := floor.perRequest(); least != nil && *least > 0 {
			l.OfFloor = new(*l.CPU / *least)
		}
	}
	return l
}

// perRequest is the server's processor time a request in microseconds.
func (t *target) perRequest() *float64 {
	if t.unknown != nil || len(t.latencies) == 0 {
		return nil
	}
	return new(microseconds(t.processor) / float64(len(t.latencies)))
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quantile is of sorted times, in microseconds; 0 if there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return microseconds(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}

// shortestBound is that of the first bucket; no request takes less than a tenth.
const shortestBound = 10 * time.Microsecond

// histogram is of sorted times, with the bounds 1, 2, 5 and 10 of each power of ten.
func histogram(sorted []time.Duration) []Bucket {
	var buckets []Bucket
	for bound, i := shortestBound, 0; len(sorted) > 0; i++ {
		n, _ := slices.BinarySearch(sorted, bound+1)
		if n > 0 || len(buckets) > 0 {
			buckets = append(buckets, Bucket{UpTo: microseconds(bound), Requests: n})
		}
		sorted = sorted[n:]
		if i%3 == 1 {
			bound = bound * 5 / 2
		} else {
			bound *= 2
		}
	}
	return buckets
}
