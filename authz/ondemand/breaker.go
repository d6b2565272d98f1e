package ondemand

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

const (
	// breakerFailures in a row open a breaker.
	breakerFailures = 5
	// breakerWindow, breakerRequests and breakerRatio: so does this share of failures
	// among at least so many requests in that time, such as when one node of a
	// Cluster is gone.
	breakerWindow   = 10 * time.Second
	breakerRequests = 20
	breakerRatio    = 0.6
	// breakerPause is how long an open breaker asks nothing, before one request tries.
	breakerPause = time.Second
)

// breaker spares a layer that fails, and those who would wait for it. It logs when
// the layer goes and when it is back, not on each request.
type breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	last    atomic.Pointer[error] // that counted as a failure
}

// errSaysNothing wraps an error that says nothing about whether the layer answers, such
// as one that is due to the caller's context.
var errSaysNothing = errors.New("this says nothing about the layer")

func newBreaker(l layer, log *slog.Logger, state *prometheus.GaugeVec) *breaker {
	gauge := state.WithLabelValues(layers[l])
	gone := false // guarded by the breaker's own lock, under which changes are reported
	b := &breaker{}
	b.last.Store(new(error))
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: layers[l], MaxRequests: 1, Interval: breakerWindow, Timeout: breakerPause,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= breakerFailures ||
				c.Requests >= breakerRequests && float64(c.TotalFailures) >= breakerRatio*float64(c.Requests)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errSaysNothing) },
		OnStateChange: func(layer string, _, to gobreaker.State) {
			gauge.Set(float64(to))
			switch {
			case to == gobreaker.StateOpen && !gone:
				gone = true
				log.Warn("on-demand layer fails and is not asked for a while", "layer", layer, "error", *b.last.Load())
			case to == gobreaker.StateClosed && gone:
				gone = false
				log.Info("on-demand layer answers again", "layer", layer)
			}
		},
	})
	return b
}

// do runs f unless the breaker is open; the error is then gobreaker's. What f
// returns counts, except where ctx has ended.
func (b *breaker) do(ctx context.Context, f func() error) error {
	_, err := b.circuit.Execute(func() (struct{}, error) {
		err := f()
		if err != nil && ctx.Err() != nil {
			err = errors.Join(errSaysNothing, err)
		}
		if err != nil && !errors.Is(err, errSaysNothing) {
			b.last.Store(new(err)) // a copy: err itself would be on the heap for each success too
		}
		return struct{}{}, err
	})
	return err
}
