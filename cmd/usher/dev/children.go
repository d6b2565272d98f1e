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
	maxRestarts   = 10
	restartWindow = time.Minute
	// restartTimeout bounds the attempts to start a child again, restartPause is
	// between two: PostgreSQL refuses to start while a backend of the postmaster
	// that was killed still ends.
	restartTimeout = 30 * time.Second
	restartPause   = 200 * time.Millisecond
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
		if over(ctx) {
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
		err := c.revive(ctx)
		if over(ctx) {
			return nil // asked to stop meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s died and cannot be started again: %w", c.name, err)
		}
		tell(c.name + " is back")
	}
}

// over tells whether ctx has ended: then the deaths of children are our own doing.
func over(ctx context.Context) bool { return ctx.Err() != nil }

// revive tries to start c until it succeeds or takes too long.
func (c *child) revive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	pause := time.NewTicker(restartPause)
	defer pause.Stop()
	for {
		err := c.start(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
}
