package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies/policiestest"
)

// devArgs run `usher dev` on dir and free ports.
func devArgs(dir string, more ...string) []string {
	return append([]string{"dev", "--dir", dir, "--admin-listen", "127.0.0.1:0", "--sidecar-listen", "127.0.0.1:0"}, more...)
}

// startDev starts `usher dev --no-demo` and waits until it is ready.
func startDev(t *testing.T, dir string, more ...string) *process {
	t.Helper()
	// One that was killed left its own.
	if err := os.Remove(filepath.Join(dir, "dev.env")); err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	p, err := startUsher(filepath.Dir(dir), nil, devArgs(dir, append(more, "--no-demo")...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		if !p.endsWithin(devReady) {
			p.signal(syscall.SIGKILL)
			t.Errorf("usher dev did not end:\n%s", p.output)
		}
	})
	require.NoError(t, p.ready(dir))
	return p
}

// devDir is a directory that PostgreSQL's user can reach.
func devDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state")
}

// eventually polls condition until it returns nil.
func eventually(t *testing.T, limit time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.NoError(t, err)
		}
		<-ticker.C
	}
}

// call makes a request with the token of env.
func call(ctx context.Context, env map[string]string, method, url, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+env["USHER_TOKEN"])
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// putAccount writes an account, and returns the status or the failure as an error.
func putAccount(t *testing.T, env map[string]string, id string, want int) error {
	t.Helper()
	status, err := call(t.Context(), env, http.MethodPut, env["USHER_ADMIN_URL"]+"/v1/accounts/"+id,
		fmt.Sprintf(`{"email": "%s@example.com", "display_name": ""}`, id))
	if err == nil && status != want {
		err = fmt.Errorf("PUT of %s answered %d instead of %d", id, status, want)
	}
	return err
}

// descendants are the processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	children := map[int][]int{}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		number, rest, _ := strings.Cut(string(data), " (")
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		child, err1 := strconv.Atoi(number)
		parent, err2 := strconv.Atoi(fields[1])
		require.NoError(t, err1)
		require.NoError(t, err2)
		children[parent] = append(children[parent], child)
	}
	var all []int
	for next := []int{pid}; len(next) > 0; {
		below := children[next[0]]
		all, next = append(all, below...), append(next[1:], below...)
	}
	return all
}

// ended is an error while one of pids lives.
func ended(pids []int) error {
	for _, pid := range pids {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		if text := string(data); !strings.Contains(text[strings.LastIndex(text, ")"):], " Z ") {
			return fmt.Errorf("process %d is still there: %s", pid, text)
		}
	}
	return nil
}

// postmaster is PostgreSQL's process on dir.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}

func TestDevKeepsItsDataAndLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	first := startDev(t, dir)
	before := devEnv(t, dir)
	for _, name := range []string{
		"USHER_ADMIN_URL", "USHER_SIDECAR_URL", "USHER_ONDEMAND_SIDECAR_URL", "USHER_TOKEN", "USHER_DATABASE_URL",
		"USHER_REDIS_URL", "USHER_REDIS_KEY_FILE", "USHER_OIDC_ISSUER", "USHER_OIDC_AUDIENCE",
	} {
		require.NotEmpty(t, before[name], name)
	}
	require.NoError(t, putAccount(t, before, "acme", http.StatusCreated))

	// A second start on the directory says who runs there.
	second, err := startUsher(filepath.Dir(dir), nil, devArgs(dir)...)
	require.NoError(t, err)
	require.True(t, second.endsWithin(devReady))
	require.Equal(t, 1, second.code())
	require.Regexp(t, fmt.Sprintf(`^usher: usher dev runs on \S+ already, as process %d: .*\n$`, first.cmd.Process.Pid), second.output.String())
	require.FileExists(t, filepath.Join(dir, "dev.env"), "the refused start left the first one's alone")

	below := descendants(t, first.cmd.Process.Pid)
	require.NotEmpty(t, below)
	began := time.Now()
	first.signal(syscall.SIGINT)
	require.True(t, first.endsWithin(15*time.Second), first.output)
	t.Logf("stopped in %s", time.Since(began))
	require.Zero(t, first.code(), first.output)
	require.NoError(t, ended(below))
	require.NoFileExists(t, filepath.Join(dir, "dev.env"))

	startDev(t, dir)
	after := devEnv(t, dir)
	port := regexp.MustCompile(`:\d+/`)
	for _, name := range []string{"USHER_TOKEN", "USHER_DATABASE_URL", "USHER_REDIS_URL", "USHER_REDIS_KEY_FILE"} {
		// But for a port that someone else took while nobody listened there.
		require.Equal(t, port.ReplaceAllString(before[name], ""), port.ReplaceAllString(after[name], ""), "%s is stable across restarts", name)
	}
	require.NoError(t, putAccount(t, after, "acme", http.StatusOK))

	// A new epoch by hand: the servers follow.
	code, stdout, stderr := run(t, after, "epoch", "new")
	require.Zero(t, code, stderr)
	require.Regexp(t, `^epoch 1, revision 1099511627776\n$`, stdout)
	for _, url := range []string{after["USHER_SIDECAR_URL"], after["USHER_ONDEMAND_SIDECAR_URL"]} {
		eventually(t, devReady, func() error {
			args := []string{"check", "--sidecar-url", url, "--min-revision", "1099511627776", "acme", "users.collaboration.GetMembers", "account:acme"}
			if code, _, stderr := run(t, after, args...); code != 0 {
				return errors.New(stderr)
			}
			return nil
		})
	}
}

func TestDevTakesOverWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	first := startDev(t, dir)
	require.NoError(t, putAccount(t, devEnv(t, dir), "acme", http.StatusCreated))
	below := descendants(t, first.cmd.Process.Pid)
	first.signal(syscall.SIGKILL)
	require.True(t, first.endsWithin(devReady))
	eventually(t, devReady, func() error { return ended(below) }) // the kernel ends them

	began := time.Now()
	startDev(t, dir)
	t.Logf("ready %s after the kill", time.Since(began))
	require.NoError(t, putAccount(t, devEnv(t, dir), "acme", http.StatusOK))
}

// `go run` passes no signal on: what it ran ends when it is gone, and leaves nothing.
func TestDevEndsWithGoRun(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	program, err := exec.LookPath("usher")
	require.NoError(t, err)
	built := filepath.Join(filepath.Dir(dir), "go-build1", "usher")
	require.NoError(t, os.Mkdir(filepath.Dir(built), 0o755))
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(built, data, 0o755))

	// A shell stands for go: it waits for its child, and dies of a signal alone.
	goRun := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `"$0" "$@" & wait`, built}, devArgs(dir, "--no-demo")...)...)
	goRun.Env = cleanEnv()
	require.NoError(t, goRun.Start())
	eventually(t, devReady, func() error {
		_, err := os.Stat(filepath.Join(dir, "dev.env"))
		return err
	})
	below := descendants(t, goRun.Process.Pid)
	require.NotEmpty(t, below)
	require.NoError(t, goRun.Process.Signal(syscall.SIGTERM))
	require.Error(t, goRun.Wait(), "it died of the signal")
	eventually(t, devReady, func() error { return ended(below) })
	require.NoFileExists(t, filepath.Join(dir, "dev.env"), "it stopped in order")
}

func TestDevRevivesItsChildren(t *testing.T) {
	t.Parallel()
	dir := devDir(t)
	p := startDev(t, dir)
	env := devEnv(t, dir)
	require.NoError(t, putAccount(t, env, "acme", http.StatusCreated))

	pid := postmaster(t, dir)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, devReady, func() error {
		if !strings.Contains(p.output.String(), "PostgreSQL is back") {
			return fmt.Errorf("PostgreSQL is not back:\n%s", p.output)
		}
		return putAccount(t, env, "acme", http.StatusOK)
	})
	require.NotEqual(t, pid, postmaster(t, dir))

	for _, pid := range descendants(t, p.cmd.Process.Pid) {
		name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		if err == nil && strings.TrimSpace(string(name)) == "redis-server" {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	eventually(t, devReady, func() error {
		if !strings.Contains(p.output.String(), "Redis is back") {
			return fmt.Errorf("Redis is not back:\n%s", p.output)
		}
		return nil
	})
	status, err := call(t.Context(), env, http.MethodPost, env["USHER_ONDEMAND_SIDECAR_URL"]+"/access/v1/evaluation",
		`{"subject": {"type": "account", "id": "acme"}, "action": {"name": "a.B"}, "resource": {"type": "account", "id": "acme"}}`)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
}

// Everything that can be wrong with a start is one line with what to do, and exit
// code 1.
func TestDevRefusals(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"port taken":         {[]string{"--admin-listen", taken.Addr().String()}, taken.Addr().String() + " is taken by another program: stop it, or give --admin-listen another port"},
		"sidecar port taken": {[]string{"--sidecar-listen", taken.Addr().String()}, "give --sidecar-listen another port"},
		"not an address":     {[]string{"--admin-listen", "8080"}, "--admin-listen must be HOST:PORT"},
		"not on loopback":    {[]string{"--admin-listen", "0.0.0.0:0"}, "--admin-listen must be on loopback"},
		"one port for both":  {[]string{"--admin-listen", "127.0.0.1:9", "--sidecar-listen", "127.0.0.1:9"}, "must differ"},
		"no directory":       {[]string{"--dir", filepath.Join(file, "sub")}, "cannot write to the directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := startUsher(t.TempDir(), nil, append(devArgs(devDir(t)), c.args...)...)
			require.NoError(t, err)
			require.True(t, p.endsWithin(devReady), p.output)
			require.Equal(t, 1, p.code())
			require.Contains(t, p.output.String(), c.want)
			require.Equal(t, 1, strings.Count(p.output.String(), "\n"), p.output)
		})
	}
}

// As root PostgreSQL runs as another user; as an ordinary user all runs as that
// one. The tests run as one of them, and the other way is tried from root.
func TestDevAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // every other test is this one
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	require.NoError(t, err)
	// A home of its own, and the program where that user can run it.
	home, err := os.MkdirTemp("", "usher-nobody-") //nolint:usetesting // the one of t.TempDir stands in a closed directory
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	program, err := exec.LookPath("usher")
	require.NoError(t, err)
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "usher"), data, 0o755))
	require.NoError(t, os.Chown(home, uid, uid))

	as := func(args ...string) *process {
		p := &process{output: &policiestest.Output{}, done: make(chan struct{})}
		p.cmd = exec.CommandContext(context.Background(), filepath.Join(home, "usher"), args...)
		p.cmd.Dir = home
		p.cmd.Env = append(cleanEnv(), "HOME="+home)
		p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		require.NoError(t, p.cmd.Start())
		go func() {
			_ = p.cmd.Wait()
			close(p.done)
		}()
		return p
	}
	dir := filepath.Join(home, "state")
	p := as(devArgs(dir, "--no-demo")...)
	require.NoError(t, p.ready(dir))
	require.NoError(t, putAccount(t, devEnv(t, dir), "acme", http.StatusCreated))
	p.signal(syscall.SIGTERM)
	require.True(t, p.endsWithin(devReady), p.output)
	require.Zero(t, p.code(), p.output)

	closed := as(devArgs("/root/state", "--no-demo")...)
	require.True(t, closed.endsWithin(devReady), closed.output)
	require.Equal(t, 1, closed.code())
	require.Contains(t, closed.output.String(), "cannot write to the directory /root/state (permission denied)")
}
