package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// stopTimeout bounds each step of a stop.
const stopTimeout = 10 * time.Second

// stack is what has been started, to be stopped in reverse.
type stack []part

type part struct {
	name string
	stop func(context.Context) error
}

func (s *stack) push(name string, stop func(context.Context) error) {
	*s = append(*s, part{name, stop})
}

// unwind stops everything, whatever fails on the way.
func (s *stack) unwind(ctx context.Context) error {
	var failures []error
	for _, p := range slices.Backward(*s) {
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		if err := p.stop(ctx); err != nil {
			failures = append(failures, fmt.Errorf("stop %s: %w", p.name, err))
		}
		cancel()
	}
	*s = nil
	return errors.Join(failures...)
}
