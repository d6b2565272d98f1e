package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

var (
	errPortTaken = errors.New("the port is taken")
	errLeftovers = errors.New("processes of a killed server are about to end")
)

// child is a running program. One goroutine, on a thread of its own, starts it and
// waits for it: on Linux the kernel ends the child when that thread ends.
type child struct {
	pid  int
	proc *os.Process
	done chan struct{}
}

func startChild(program string, args []string, who identity, out *os.File) (*child, error) {
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // our own arguments; Stop ends it, not a context
	cmd.Dir = "/"                         // the present directory may be closed to the server's user
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = who.attributes(true)

	c := &child{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, after the child
		defer close(c.done)
		err := cmd.Start()
		if err == nil {
			c.pid, c.proc = cmd.Process.Pid, cmd.Process
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// environment is the child's: nothing of ours that PostgreSQL's programs read
// (PGDATA and the like), and messages in English.
func environment() []string {
	env := []string{"LC_ALL=C", "LANG=C"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name == "PATH" || name == "TZ" || name == "TMPDIR" || name == "LD_LIBRARY_PATH" {
			env = append(env, kv)
		}
	}
	return env
}

func (c *child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (c *child) interrupt() { _ = c.proc.Signal(syscall.SIGINT) }  // fast shutdown
func (c *child) quit()      { _ = c.proc.Signal(syscall.SIGQUIT) } // immediate shutdown
func (c *child) kill()      { _ = c.proc.Kill() }

// startError is why the server ended at once, from its log.
func startError(logPath string) error {
	data, err := os.ReadFile(logPath)
	if err != nil {
		return fmt.Errorf("PostgreSQL ended at once, and its log cannot be read: %w", err)
	}
	if bytes.Contains(data, []byte("Address already in use")) {
		return fmt.Errorf("PostgreSQL cannot listen: %w; its last words are in %s", errPortTaken, logPath)
	}
	if bytes.Contains(data, []byte("pre-existing shared memory block")) {
		return fmt.Errorf("PostgreSQL cannot start: %w; its last words are in %s", errLeftovers, logPath)
	}
	for line := range strings.Lines(string(data)) {
		if _, text, ok := strings.Cut(line, "FATAL:"); ok {
			return fmt.Errorf("PostgreSQL ended at once: %s (see %s)", strings.TrimSpace(text), logPath)
		}
	}
	return fmt.Errorf("PostgreSQL ended at once; its last words are in %s", logPath)
}
