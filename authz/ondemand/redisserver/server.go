package redisserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os/exec"
	"strconv"
)

// Program is the name under which the server is looked for in PATH.
const Program = "redis-server"

const (
	// defaultMaxMemory bounds what the server holds, in bytes.
	defaultMaxMemory = 256 << 20
	// portAttempts is how many free ports are tried: between finding one and the
	// server's listening on it somebody else may take it.
	portAttempts = 5
	// passwordBytes is the randomness of a password made here.
	passwordBytes = 24
)

// Options say what to run. The zero value runs the redis-server found in PATH, or
// a Redis in this process, on a free port with a random password.
type Options struct {
	// Program is the path of redis-server; empty looks for [Program] in PATH, and
	// runs in this process if there is none.
	Program string
	// InProcess runs in this process whatever the machine has.
	InProcess bool
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// Password that clients must give; empty makes a random one.
	Password string
	// MaxMemory in bytes bounds what a redis-server holds (256 MiB if 0); the
	// Redis in this process has no such limit.
	MaxMemory int64
	// Config is appended to the server's configuration as it stands (tests make
	// members of clusters and Sentinels with it). Ignored in this process.
	Config string
	// Sentinel runs a redis-server as a Sentinel, which writes its configuration
	// back: it then goes to a file in Dir instead of standard input.
	Sentinel bool
	// Dir is the server's working directory; the system's for temporary files if
	// empty. Only a Sentinel or a cluster member writes there.
	Dir string
	// Logger gets the server's start and end; discarded if nil.
	Logger *slog.Logger
}

// Server is a running Redis. Its methods may be called from any goroutine.
type Server struct {
	addr     string
	password string
	backend  backend
}

// backend is how the server runs: a child process or miniredis.
type backend interface {
	pid() int
	done() <-chan struct{}
	stop(ctx context.Context) error
	pause() error
	resume() error
}

// Start runs a server and returns once it answers. The error says which program
// failed and the end of what it wrote. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxMemory == 0 {
		o.MaxMemory = defaultMaxMemory
	}
	if o.Password == "" {
		o.Password = newPassword()
	}
	if o.InProcess {
		return startInProcess(o)
	}
	if o.Program == "" {
		program, err := exec.LookPath(Program)
		if errors.Is(err, exec.ErrNotFound) {
			return startInProcess(o)
		}
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", Program, err)
		}
		o.Program = program
	}
	return startOnPort(ctx, o)
}

// startOnPort starts the program on the port asked for, or on a free one.
func startOnPort(ctx context.Context, o Options) (*Server, error) {
	if o.Port != 0 {
		return startProcess(ctx, o)
	}
	var failures []error
	for range portAttempts {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		o.Port = port
		s, err := startProcess(ctx, o)
		if err == nil {
			return s, nil
		}
		failures = append(failures, err)
		var exited *exitError
		if !errors.As(err, &exited) || ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// Addr is HOST:PORT.
func (s *Server) Addr() string { return s.addr }

// Password is what clients give.
func (s *Server) Password() string { return s.password }

// URL is redis://:PASSWORD@HOST:PORT/0. It carries the password: do not log it.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.password), Host: s.addr, Path: "/0"}
	return u.String()
}

// PID is the child's process id, 0 for a Redis in this process.
func (s *Server) PID() int { return s.backend.pid() }

// Done is closed when the server has ended, asked to or not.
func (s *Server) Done() <-chan struct{} { return s.backend.done() }

// Stop ends the server, gracefully at first and by force when ctx ends or the
// server takes longer than five seconds. Stopping twice is well.
func (s *Server) Stop(ctx context.Context) error { return s.backend.stop(ctx) }

// Pause freezes a child process (SIGSTOP), so that its clients' connections stay
// open and are not answered; Resume wakes it. Both are refused for a Redis in this
// process.
func (s *Server) Pause() error { return s.backend.pause() }

// Resume wakes a server frozen by [Server.Pause].
func (s *Server) Resume() error { return s.backend.resume() }

func newPassword() string {
	b := make([]byte, passwordBytes)
	_, _ = rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return strconv.Atoi(port)
}
