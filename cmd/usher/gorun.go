package main

import (
	"context"
	"os"
	"strings"
	"time"
)

// parentInterval is between two looks at who the parent is.
const parentInterval = 250 * time.Millisecond

// fromGoRun tells whether `go run` built and started this program: it leaves it in
// a directory of this name.
func fromGoRun() bool {
	path, err := os.Executable()
	return err == nil && strings.Contains(path, "/go-build")
}

// untilGoRunEnds ends with ctx, and also when `go run` is gone: it passes no signal
// on, so that a SIGTERM to it would leave all that this process started behind. (A
// Ctrl-C needs none of this: the terminal sends it to both.)
func untilGoRunEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if !fromGoRun() {
		return ctx, cancel
	}
	parent := os.Getppid()
	go func() {
		ticker := time.NewTicker(parentInterval)
		defer ticker.Stop()
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
		cancel() // whoever adopts an orphan has another number
	}()
	return ctx, cancel
}
