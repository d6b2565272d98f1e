package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies/policiestest"
)

// TestMain makes this test binary the command usher too: testscript puts it on the
// PATH under that name.
func TestMain(m *testing.M) {
	testscript.Main(withShared{m}, map[string]func(){"usher": main})
}

// withShared stops the shared `usher dev` after the tests.
type withShared struct{ *testing.M }

func (w withShared) Run() int {
	code := w.M.Run()
	shared.stop()
	return code
}

// shared is one `usher dev` with demo data for all tests that only ask and that
// write to accounts of their own.
var shared sharedDev

type sharedDev struct {
	once sync.Once
	root string
	dev  *process
	err  error
}

// home is the shared platform's working directory: .usher/dev.env is there.
func (s *sharedDev) home(t *testing.T) string {
	t.Helper()
	s.once.Do(func() {
		if s.root, s.err = os.MkdirTemp("", "usher-docs-"); s.err != nil { //nolint:usetesting // it outlives the test
			return
		}
		if s.err = os.Chmod(s.root, 0o755); s.err != nil { // PostgreSQL's user passes through
			return
		}
		s.dev, s.err = startUsher(s.root, nil, "dev", "--admin-listen", "127.0.0.1:0", "--sidecar-listen", "127.0.0.1:0")
		if s.err == nil {
			s.err = s.dev.ready(filepath.Join(s.root, ".usher"))
		}
	})
	require.NoError(t, s.err)
	return s.root
}

func (s *sharedDev) stop() {
	if s.dev != nil {
		s.dev.signal(syscall.SIGTERM)
		if !s.dev.endsWithin(30 * time.Second) {
			s.dev.signal(syscall.SIGKILL)
		}
	}
	if s.root != "" {
		_ = os.RemoveAll(s.root)
	}
}

// process is a usher in a process of its own.
type process struct {
	cmd    *exec.Cmd
	output *policiestest.Output
	done   chan struct{}
}

// startUsher starts usher in dir; env is added to an environment without USHER_
// variables.
func startUsher(dir string, env []string, args ...string) (*process, error) {
	p := &process{output: &policiestest.Output{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), "usher", args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start usher: %w", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) endsWithin(limit time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// code is the exit code of a process that has ended.
func (p *process) code() int { return p.cmd.ProcessState.ExitCode() }

// devReady is how long `usher dev` may take (api.md, One binary).
const devReady = 30 * time.Second

// ready waits for dir/dev.env.
func (p *process) ready(dir string) error {
	deadline := time.After(devReady)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(filepath.Join(dir, "dev.env")); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("usher dev ended:\n%s", p.output)
		case <-deadline:
			return fmt.Errorf("usher dev is not ready after %s:\n%s", devReady, p.output)
		case <-ticker.C:
		}
	}
}

// cleanEnv is the environment without what would configure usher.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "USHER_") {
			env = append(env, kv)
		}
	}
	return env
}

// devEnv is what dev.env says, as a shell reads it.
func devEnv(t *testing.T, dir string) map[string]string {
	t.Helper()
	read := exec.CommandContext(t.Context(), "sh", "-c", `set -a; . "$0"; env`, filepath.Join(dir, "dev.env"))
	read.Env = cleanEnv()
	out, err := read.Output()
	require.NoError(t, err)
	env := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok && strings.HasPrefix(name, "USHER_") {
			env[name] = value
		}
	}
	return env
}
