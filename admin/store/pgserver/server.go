package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "usher"
	// Database is the name of the database that Start makes.
	Database = "usher"

	startTimeout   = 60 * time.Second // recovery after a crash included
	stopTimeout    = 15 * time.Second // before fast becomes immediate
	pollInterval   = 20 * time.Millisecond
	portAttempts   = 5
	connectTimeout = 2 * time.Second
)

// Options are what a [Server] needs. Only Dir is required.
type Options struct {
	// Dir is made if it is not there. It is the server's alone.
	Dir string
	// Bin is the directory of initdb and postgres; "" finds it, see [FindPrograms].
	Bin string
	// Port is the loopback TCP port; 0 picks a free one, kept for later starts of
	// the same Server.
	Port int
	// Unsafe trades durability for speed: for tests only.
	Unsafe bool
	// Settings are further configuration parameters.
	Settings map[string]string
	// Logger; discards if nil.
	Logger *slog.Logger
}

// Server is one PostgreSQL. Its methods may be called from many goroutines; Start
// and Stop may be called again and again, in any order.
type Server struct {
	o Options

	mu       sync.Mutex
	port     int
	password string
	bin      string
	lock     *os.File
	child    *child
}

// New checks o. It touches nothing.
func New(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("pgserver: Options.Dir is missing")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	o.Dir = dir
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, port: o.Port}, nil
}

// Start makes the data directory if there is none, takes it over from a server
// that an earlier process left, and returns once the database answers. A server
// that runs is left alone. Errors are one line, and say what to do.
func (s *Server) Start(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil && s.child.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	who, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.unlock()
		}
	}()
	if err := s.initialize(ctx, who); err != nil {
		return err
	}
	if err := takeOver(ctx, s.dataDir(), s.o.Logger); err != nil {
		return err
	}
	if err := s.launchRepeatedly(ctx, who); err != nil {
		return err
	}
	return s.createDatabase(ctx)
}

// launchRepeatedly gets over what passes by itself: another process that took the
// port between our look and the start, and the last backends of a postmaster that
// was killed, which end once they notice.
func (s *Server) launchRepeatedly(ctx context.Context, who identity) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for ports := 1; ; {
		err := s.launch(ctx, who)
		switch {
		case errors.Is(err, errPortTaken) && s.o.Port == 0 && ports < portAttempts:
			ports++
			s.port = 0
		case errors.Is(err, errLeftovers):
			select {
			case <-ctx.Done():
				return err
			case <-ticker.C:
			}
		default:
			return err
		}
	}
}

// prepare finds the programs and makes and locks Dir.
func (s *Server) prepare(ctx context.Context) (identity, error) {
	if s.bin == "" {
		bin := s.o.Bin
		if bin == "" {
			var err error
			if bin, err = FindPrograms(ctx, s.o.Logger); err != nil {
				return identity{}, err
			}
		}
		s.bin = bin
	}
	if err := os.MkdirAll(s.o.Dir, 0o755); err != nil { //nolint:gosec // the server's user passes through; data and password are closed
		return identity{}, fmt.Errorf("the directory %s cannot be made: %w", s.o.Dir, err)
	}
	who, err := serverIdentity(s.o.Dir)
	if err != nil {
		return identity{}, err
	}
	if s.lock == nil {
		if s.lock, err = lockFile(filepath.Join(s.o.Dir, "lock")); err != nil {
			return identity{}, err
		}
	}
	return who, nil
}

func (s *Server) unlock() {
	if s.lock != nil {
		// By name: closing alone would leave the lock to a child that was forked a
		// moment ago and has not yet become its program.
		_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		_ = s.lock.Close()
		s.lock = nil
	}
}

func (s *Server) dataDir() string { return filepath.Join(s.o.Dir, "data") }

// launch starts the server on a port and waits until it answers.
func (s *Server) launch(ctx context.Context, who identity) error {
	if s.port == 0 {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		s.port = port
	}
	logPath := filepath.Join(s.o.Dir, "postgres.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("PostgreSQL's log cannot be written: %w", err)
	}
	defer func() { _ = logFile.Close() }()

	c, err := startChild(filepath.Join(s.bin, "postgres"), s.arguments(), who, logFile)
	if err != nil {
		return fmt.Errorf("%s cannot be started: %w", filepath.Join(s.bin, "postgres"), err)
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err = s.ping(ctx); err == nil {
			s.child = c
			return nil
		}
		select {
		case <-c.done:
			return startError(logPath)
		case <-ctx.Done():
			c.kill()
			<-c.done
			return fmt.Errorf("PostgreSQL did not answer in time (%w); its last words are in %s", err, logPath)
		case <-ticker.C:
		}
	}
}

func (s *Server) arguments() []string {
	settings := map[string]string{ //nolint:gosec // a setting about passwords, and none itself
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": "",
		"max_connections":         "200",
		"log_min_messages":        "warning",
		"log_checkpoints":         "off",
		"password_encryption":     "scram-sha-256",
	}
	if s.o.Unsafe {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
		settings["checkpoint_timeout"] = "1h"
		settings["max_wal_size"] = "8GB"
		settings["autovacuum"] = "off"
	}
	maps.Copy(settings, s.o.Settings)
	args := []string{"-D", s.dataDir()}
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", k+"="+settings[k])
	}
	return args
}

// URL is how to connect to a database of the server as its superuser, password
// included: not for logs. Valid after Start.
func (s *Server) URL(database string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url(database)
}

func (s *Server) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Pid is the postmaster's process id, 0 when none runs.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil || !s.child.running() {
		return 0
	}
	return s.child.pid
}

// Done is closed when the server that Start started has ended, whatever ended it;
// it is nil before the first Start.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return nil
	}
	return s.child.done
}

// Stop ends the server: connections are cut, what was committed is kept. When ctx
// ends first it is ended the hard way, which costs a recovery at the next start.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.unlock()
	if s.child == nil {
		return nil
	}
	c := s.child
	s.child = nil
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	c.interrupt()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	c.quit()
	select {
	case <-c.done:
	case <-time.After(stopTimeout):
		c.kill()
		<-c.done
	}
	return nil
}

func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", Database).Scan(&there); err != nil {
		return fmt.Errorf("look for the database %q: %w", Database, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{Database}.Sanitize()); err != nil {
		return fmt.Errorf("create the database %q: %w", Database, err)
	}
	return nil
}

func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free TCP port on loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%s is not a TCP address", l.Addr())
	}
	return address.Port, nil
}
