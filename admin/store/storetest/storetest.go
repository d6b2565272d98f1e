// Package storetest gives tests real databases: one PostgreSQL for a test process,
// without durability, and for each test a database of its own, cloned from a
// migrated template.
//
// Each package that uses it has
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
package storetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/pgserver"
	"github.com/usher-authz/usher/policies/policiestest"
)

const (
	template    = "usher_template"
	stopTimeout = 30 * time.Second
)

// server is the PostgreSQL of this process: it starts with the first test that
// needs it.
type server struct {
	once sync.Once
	err  error
	dir  string
	pg   *pgserver.Server
	next atomic.Int64
	// cloning a template allows nobody else in it.
	cloning sync.Mutex
}

// patience lets connections of tests take their time on a busy machine, where the
// server's scram alone may take seconds.
const patience = "&connect_timeout=60"

var shared server //nolint:gochecknoglobals // one server a process is the purpose of the package

// Main runs the tests, stops the server, looks for goroutines that were left, and
// exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := shared.stop(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// URL is a fresh, migrated database for tb, with the embedded catalogue in force; it
// is dropped when tb ends.
func URL(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	must(tb, shared.err, "start PostgreSQL")
	name := fmt.Sprintf("test_%d", shared.next.Add(1))
	shared.cloning.Lock()
	defer shared.cloning.Unlock()
	exec(tb, "create database "+name+" template "+template)
	tb.Cleanup(func() { exec(tb, "drop database "+name+" with (force)") })
	return shared.pg.URL(name) + patience
}

// EmptyURL is a fresh database for tb without anything in it.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	must(tb, shared.err, "start PostgreSQL")
	name := fmt.Sprintf("test_%d", shared.next.Add(1))
	exec(tb, "create database "+name+" template template0")
	tb.Cleanup(func() { exec(tb, "drop database "+name+" with (force)") })
	return shared.pg.URL(name) + patience
}

// New opens a store on a fresh database; it is closed when tb ends. URL and Logger of
// o are filled in where they are missing.
func New(tb testing.TB, o store.Options) *store.Store {
	tb.Helper()
	if o.URL == "" {
		o.URL = URL(tb)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := store.Open(tb.Context(), o)
	must(tb, err, "prepare a test database")
	tb.Cleanup(s.Close)
	return s
}

// Migrate puts schema and embedded catalogue into a database of the test's own.
func Migrate(tb testing.TB, url string) {
	tb.Helper()
	inForce, err := policiestest.PolicyInForce()
	must(tb, err, "prepare a test database")
	_, err = store.Migrate(tb.Context(), url, inForce, io.Discard, store.MigrateOptions{})
	must(tb, err, "prepare a test database")
}

func (s *server) start() error {
	var err error
	if s.dir, err = os.MkdirTemp("", "usher-storetest-"); err != nil {
		return err
	}
	// The server's user must pass.
	if err := os.Chmod(s.dir, 0o755); err != nil { //nolint:gosec // as above
		return err
	}
	if s.pg, err = pgserver.New(pgserver.Options{Dir: s.dir, Unsafe: true}); err != nil {
		return err
	}
	ctx := context.Background()
	if err := s.pg.Start(ctx); err != nil {
		return err
	}
	if err := s.exec(ctx, "create database "+template+" template template0"); err != nil {
		return err
	}
	inForce, err := policiestest.PolicyInForce()
	if err != nil {
		return err
	}
	_, err = store.Migrate(ctx, s.pg.URL(template), inForce, io.Discard, store.MigrateOptions{})
	return err
}

func (s *server) stop() error {
	if s.pg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.pg.Stop(ctx); err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

func (s *server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func exec(tb testing.TB, sql string) {
	tb.Helper()
	err := shared.exec(context.WithoutCancel(tb.Context()), sql)
	if err != nil && strings.HasPrefix(sql, "drop") {
		tb.Logf("%s: %v", sql, err)
		return
	}
	must(tb, err, sql)
}

func must(tb testing.TB, err error, doing string) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", doing, err)
	}
}
