package authz

import (
	"context"
	"errors"
	"sync"
)

// flights lets those who miss the same key at the same root at the same time
// evaluate once. (singleflight of x/sync takes a string for a key, and has no way
// to stop waiting.)
type flights struct {
	mu      sync.Mutex
	flights map[flightKey]*flight
}

type flightKey struct {
	cacheKey
	root uint64 // its number
}

type flight struct {
	landed chan struct{} // closed once made or err is there
	made   *entry
	err    error
}

var errCrashed = errors.New("the evaluation ended without a result")

// do gives what work gives, which runs once for all who ask for k meanwhile. It
// runs under a context that does not end with the first caller's, since others
// wait for it; work bounds itself. Whoever waits goes when its own ctx ends. led
// tells whether this caller did the work.
func (f *flights) do(ctx context.Context, k flightKey, work func(context.Context) (*entry, error)) (made *entry, led bool, err error) {
	f.mu.Lock()
	if other, ok := f.flights[k]; ok {
		f.mu.Unlock()
		select {
		case <-other.landed:
			return other.made, false, other.err
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	mine := &flight{landed: make(chan struct{}), err: errCrashed}
	f.flights[k] = mine
	f.mu.Unlock()
	defer func() { // also if work panics: those who wait must not wait for ever
		f.mu.Lock()
		delete(f.flights, k)
		f.mu.Unlock()
		close(mine.landed)
	}()
	mine.made, mine.err = work(context.WithoutCancel(ctx))
	return mine.made, true, mine.err
}
