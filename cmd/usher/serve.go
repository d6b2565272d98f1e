package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// server is a process value: admin.Server, sidecar.Server.
type server interface {
	Start(ctx context.Context) error
	Addr() net.Addr
	Stop(ctx context.Context) error
}

// stopTimeout bounds how long requests in flight may take when the process is
// asked to end.
const stopTimeout = 10 * time.Second

// serve runs s until ctx ends.
func serve(ctx context.Context, s server, name, listen string, log *slog.Logger) error {
	if err := s.Start(ctx); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is taken by another program: stop it, or give --listen another port", listen)
		}
		return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	log.InfoContext(ctx, "listening", "server", name, "address", s.Addr().String(), "version", version())
	<-ctx.Done()
	log.InfoContext(ctx, "stopping", "server", name)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.Stop(stopping); err != nil {
		return fmt.Errorf("stop the %s: %w", name, err)
	}
	log.InfoContext(stopping, "stopped", "server", name)
	return nil
}
