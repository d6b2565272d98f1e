package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// takeOver ends the postmaster that an earlier process of ours left on dir, if
// there is one. A pid file that its owner did not live to remove is left to
// PostgreSQL, which knows a stale one when it sees it; but the pid may since be
// another's, so a live process is only touched if it says that it is a server on dir.
func takeOver(ctx context.Context, dir string, log *slog.Logger) error {
	pid, ok, err := readPid(filepath.Join(dir, "postmaster.pid"))
	if err != nil || !ok {
		return err
	}
	if !alive(pid) {
		return nil
	}
	if !servesDir(pid, dir) {
		// PostgreSQL would take whatever lives under that number for a server.
		if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil {
			return fmt.Errorf("the stale pid file cannot be removed: %w", err)
		}
		return nil
	}
	log.InfoContext(ctx, "taking over from a PostgreSQL that an earlier run left", "pid", pid)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("the PostgreSQL that runs on %s (pid %d) cannot be stopped: %w", dir, pid, err)
		}
		if gone(ctx, pid) {
			return nil
		}
	}
	return fmt.Errorf("the PostgreSQL that runs on %s (pid %d) does not end", dir, pid)
}

// readPid reads the first line of a postmaster.pid.
func readPid(path string) (int, bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("the pid file of PostgreSQL cannot be read: %w", err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		// Torn by a crash: PostgreSQL refuses it, so it must go.
		if err := os.Remove(path); err != nil {
			return 0, false, fmt.Errorf("the torn pid file cannot be removed: %w", err)
		}
		return 0, false, nil
	}
	return pid, true, nil
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// gone waits until pid has ended.
func gone(ctx context.Context, pid int) bool {
	deadline := time.NewTimer(stopTimeout)
	defer deadline.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for alive(pid) && !zombie(pid) {
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return false
		case <-ticker.C:
		}
	}
	return true
}
