package redisserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds the wait for a first answer.
	readyTimeout = 10 * time.Second
	// readyInterval is the pause between questions whether the server answers.
	readyInterval = 5 * time.Millisecond
	// pingTimeout bounds one such question: on the port may be somebody else's
	// server, which never answers.
	pingTimeout = 250 * time.Millisecond
	// stopTimeout is how long a server has to end by itself.
	stopTimeout = 5 * time.Second
	// outputTail is how much of the server's output an error shows, in bytes.
	outputTail = 2 << 10
)

// exitError says that the server ended before it answered, such as when another
// process took its port.
type exitError struct {
	program, output string
	cause           error
}

func (e *exitError) Error() string {
	return fmt.Sprintf("%s ended before it answered (%v): %s", e.program, e.cause, e.output)
}

func (e *exitError) Unwrap() error { return e.cause }

// process is a redis-server that is our child.
type process struct {
	cmd    *exec.Cmd
	output *tail
	log    *slog.Logger
	ended  chan struct{}
	err    error // what Wait said; read after ended is closed
	// files are removed once the server has ended.
	files []string
}

func startProcess(ctx context.Context, o Options) (*Server, error) {
	p := &process{output: &tail{limit: outputTail}, log: o.Logger, ended: make(chan struct{})}
	config := configuration(o)
	args := []string{"-"}
	if o.Sentinel {
		path, err := writeConfig(o, config)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, path)
		args = []string{path, "--sentinel"}
	}
	// Not CommandContext: ctx bounds the start, and the server outlives it.
	p.cmd = exec.Command(o.Program, args...) //nolint:gosec,noctx // the program is the operator's choice, and the server outlives the start's context
	p.cmd.Dir = o.Dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = os.TempDir()
	}
	if !o.Sentinel {
		p.cmd.Stdin = strings.NewReader(config)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = attributes()
	if err := p.run(); err != nil {
		p.removeFiles()
		return nil, fmt.Errorf("start %s: %w", o.Program, err)
	}
	s := &Server{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)), password: o.Password, backend: p}
	if err := p.awaitAnswer(ctx, s); err != nil {
		_ = p.stop(ctx)
		return nil, err
	}
	o.Logger.Info("redis server started", "addr", s.addr, "pid", p.pid())
	return s, nil
}

// configuration is what the server reads. The password is quoted as Redis's
// configuration has it, every byte of it in hex.
func configuration(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "port %d\nbind 127.0.0.1\nprotected-mode yes\ndaemonize no\n", o.Port)
	var quoted strings.Builder
	for _, c := range []byte(o.Password) {
		fmt.Fprintf(&quoted, `\x%02x`, c)
	}
	fmt.Fprintf(&b, "requirepass \"%s\"\n", quoted.String())
	if !o.Sentinel {
		fmt.Fprintf(&b, "save \"\"\nappendonly no\nmaxmemory %d\nmaxmemory-policy allkeys-lru\n", o.MaxMemory)
		fmt.Fprintf(&b, "masterauth \"%s\"\n", quoted.String())
	}
	b.WriteString(o.Config)
	return b.String()
}

func writeConfig(o Options, config string) (string, error) {
	dir := o.Dir
	if dir == "" {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, "sentinel-"+strconv.Itoa(o.Port)+".conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return "", fmt.Errorf("write the Sentinel's configuration: %w", err)
	}
	return path, nil
}

// run starts the child and reaps it in a goroutine on a thread of its own: on
// Linux the kernel ends the child when the thread that started it ends.
func (p *process) run() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, after the child
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		p.removeFiles()
		close(p.ended)
	}()
	return <-started
}

func (p *process) removeFiles() {
	for _, f := range p.files {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.log.Warn("a file of the redis server could not be removed", "file", f, "error", err)
		}
	}
}

// awaitAnswer asks until the server answers, ends, or takes too long.
func (p *process) awaitAnswer(ctx context.Context, s *Server) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		err := ping(ctx, s.addr, s.password)
		// Somebody else's server may hold the port: ours has then ended, so look
		// before the answer is believed.
		select {
		case <-p.ended:
			return &exitError{program: p.cmd.Path, output: p.output.String(), cause: p.err}
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return &exitError{program: p.cmd.Path, output: p.output.String(), cause: p.err}
		case <-ctx.Done():
			return fmt.Errorf("%s on %s did not answer (%w): %w", p.cmd.Path, s.addr, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// ping logs in and asks once whether the server answers. By hand, since a client's
// pool goes on dialing for a while after it was closed.
func ping(ctx context.Context, addr, password string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(pingTimeout)); err != nil {
		return err
	}
	request := fmt.Sprintf("*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n*1\r\n$4\r\nPING\r\n", len(password), password)
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(line); got != want {
			return fmt.Errorf("the server answered %q instead of %q", got, want)
		}
	}
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) done() <-chan struct{} { return p.ended }

// stop signals only this child, by its handle.
func (p *process) stop(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen server does not hear SIGTERM
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-ctx.Done():
	case <-timer.C:
	}
	select {
	case <-p.ended:
	default:
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill the redis server, process %d: %w", p.pid(), err)
		}
		<-p.ended
	}
	p.log.Info("redis server stopped", "pid", p.pid())
	return nil
}

func (p *process) pause() error  { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	mu    sync.Mutex
	kept  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
