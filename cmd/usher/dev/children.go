package dev

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// child is a server that runs in a process of its own (or could: Redis may run in
// this one).
type child struct {
	name  string
	done  func() <-chan struct{}
	start func(context.Context) error
}

const (
	// A child that dies more than maxRestarts times within restartWindow is not
	// worth another start.
	maxRestarts    = 5
	restartWindow  = time.Minute
	restartTimeout = 60 * time.Second
)

// watch starts c again each time it dies. It returns nil when ctx ends, and an
// error when c cannot be revived.
func (c *child) watch(ctx context.Context, log *slog.Logger, tell func(string)) error {
	var deaths []time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.done():
		}
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		deaths = append(deaths, now)
		for now.Sub(deaths[0]) > restartWindow {
			deaths = deaths[1:]
		}
		if len(deaths) > maxRestarts {
			return fmt.Errorf("%s died %d times within %s", c.name, len(deaths), restartWindow)
		}
		log.WarnContext(ctx, "a child died and is started again", "child", c.name)
		tell(c.name + " died: starting it again")
		starting, cancel := context.WithTimeout(ctx, restartTimeout)
		err := c.start(starting)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s died and cannot be started again: %w", c.name, err)
		}
		tell(c.name + " is back")
	}
}
