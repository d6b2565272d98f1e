package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lock is the flock on DIR/lock, which the kernel lets go of however the process
// ends. The file holds the process id of its last holder.
type lock struct{ file *os.File }

// RunningError says that another `usher dev` runs on the same directory.
type RunningError struct{ Dir, PID string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("usher dev runs on %s already, as process %s: stop it (kill %s), or give another --dir", e.Dir, e.PID, e.PID)
}

// takeLock locks dir for this process, or returns a [RunningError].
func takeLock(dir string) (*lock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, notWritable(dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, readErr := os.ReadFile(path)
		_ = f.Close()
		if readErr != nil || len(pid) == 0 {
			pid = []byte("(unknown)")
		}
		return nil, &RunningError{Dir: dir, PID: strings.TrimSpace(string(pid))}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &lock{f}, nil
}

// release lets others in. The file stays: removing it would let two processes
// lock two files of one name. It unlocks by name: closing alone would leave the lock
// to a child that was forked a moment ago and has not yet become its program.
func (l *lock) release() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

// openDir makes dir and checks that it can be written to.
func openDir(dir string) error {
	// Others may pass through, PostgreSQL's user among them; what is secret inside
	// has modes of its own.
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // see above
		return notWritable(dir, err)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return notWritable(dir, err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return notWritable(dir, err)
	}
	return nil
}

func notWritable(dir string, err error) error {
	cause := err
	var path *fs.PathError
	if errors.As(err, &path) {
		cause = path.Err
	}
	return fmt.Errorf("cannot write to the directory %s (%w): give another --dir, or change its owner or mode", dir, cause)
}
