package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz/routes"
)

// routesInterval is how often the file of the routes is looked at.
const routesInterval = time.Second

// routesFile keeps the routes of a file in force, the last good ones as long as it is
// not there or broken.
type routesFile struct {
	path    string
	inForce *routes.Routes
	logger  *slog.Logger
	applied prometheus.Counter
	failed  prometheus.Counter

	info os.FileInfo // of the file in force
	last string      // what was wrong at the last look; empty: nothing
}

// newRoutesFile reads the file for the first time.
func newRoutesFile(o Options) (*routesFile, error) {
	f := &routesFile{
		path: o.RoutesFile, logger: o.Logger,
		applied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_sidecar_routes_applied_total", Help: "Files of routes that were put in force after the first.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_sidecar_routes_failed_total",
			Help: "Looks at the file of routes that failed: not there, not readable, or refused; the last good routes stay in force. Growing is bad.",
		}),
	}
	var err error
	if f.inForce, err = f.read(); err != nil {
		return nil, err
	}
	return f, errors.Join(o.Registry.Register(f.applied), o.Registry.Register(f.failed))
}

func (f *routesFile) read() (*routes.Routes, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	made, err := routes.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("the routes in %s: %w", f.path, err)
	}
	f.info = info
	return made, nil
}

// run looks at the file until ctx ends.
func (f *routesFile) run(ctx context.Context) {
	ticker := time.NewTicker(routesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.look(ctx)
		}
	}
}

// look puts the file in force if it is another than the one that is.
func (f *routesFile) look(ctx context.Context) {
	info, err := os.Stat(f.path)
	if err == nil && os.SameFile(f.info, info) && f.info.ModTime().Equal(info.ModTime()) && f.info.Size() == info.Size() {
		f.last = ""
		return
	}
	made, err := f.read()
	if err != nil {
		f.failed.Inc()
		if f.last != err.Error() {
			f.logger.ErrorContext(ctx, "the routes could not be used, the last good ones stay in force", "error", err)
		}
		f.last = err.Error()
		return
	}
	f.last = ""
	f.inForce.Replace(made)
	f.applied.Inc()
	f.logger.InfoContext(ctx, "routes in force", "file", f.path)
}
