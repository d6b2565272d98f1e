package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"
)

// processValue is a server as a value: admin.Server, sidecar.Sidecar.
type processValue interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	URL() string
	// Done is closed when it has ended, and Err says why, if by itself.
	Done() <-chan struct{}
	Err() error
}

// stopTimeout bounds how long requests in flight may take when the process is
// asked to end.
const stopTimeout = 10 * time.Second

// serve runs s until ctx ends.
func serve(ctx context.Context, s processValue, name, listen string, log *slog.Logger) error {
	if err := s.Start(ctx); err != nil {
		err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is taken by another program: stop it, or give --listen another port", listen)
		}
		return err
	}
	log.InfoContext(ctx, "serving", "server", name, "url", s.URL(), "version", version())
	select {
	case <-ctx.Done():
	case <-s.Done():
		return s.Err()
	}
	log.InfoContext(ctx, "stopping", "server", name)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.Stop(stopping); err != nil {
		return fmt.Errorf("stop the %s: %w", name, err)
	}
	log.InfoContext(stopping, "stopped", "server", name)
	return nil
}
