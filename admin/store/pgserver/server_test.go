package pgserver

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := New(Options{Dir: dir, Unsafe: true, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func query(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(Database))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestStartStopStartKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	s := newServer(t, t.TempDir())
	require.NoError(t, s.Start(t.Context()))
	require.NoError(t, s.Start(t.Context()), "a second start finds it running")
	query(t, s, "create table kept (n int)")
	url := s.URL(Database)
	require.NotZero(t, s.Pid())
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "stopping is idempotent")
	require.Zero(t, s.Pid())

	require.NoError(t, s.Start(t.Context()))
	require.Equal(t, url, s.URL(Database))
	query(t, s, "insert into kept values (1)")
}

func TestASecondServerOnADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := newServer(t, dir), newServer(t, dir)
	require.NoError(t, first.Start(t.Context()))
	err := second.Start(t.Context())
	require.ErrorContains(t, err, "another process runs a PostgreSQL in "+dir)
	query(t, first, "select 1")
}

func TestStartTakesOverWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := newServer(t, dir)
	require.NoError(t, left.Start(t.Context()))
	query(t, left, "create table kept (n int)")
	done := left.Done()
	left.mu.Lock()
	left.unlock() // as the kernel does for a process that was killed
	left.mu.Unlock()

	next := newServer(t, dir)
	require.NoError(t, next.Start(t.Context()))
	<-done
	query(t, next, "insert into kept values (1)")
}

func TestStartAfterKillOfThePostmaster(t *testing.T) {
	t.Parallel()
	s := newServer(t, t.TempDir())
	require.NoError(t, s.Start(t.Context()))
	query(t, s, "create table kept (n int)")
	process, err := os.FindProcess(s.Pid())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	<-s.Done()
	require.NoError(t, s.Start(t.Context()), "the stale pid file is no hindrance")
	query(t, s, "insert into kept values (1)")
}

func TestPidFilesThatLie(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"another program's pid": strconv.Itoa(os.Getpid()) + "\n/somewhere\n",
		"torn":                  "",
		"of a dead process":     "4194303\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, t.TempDir())
			require.NoError(t, s.Start(t.Context()))
			require.NoError(t, s.Stop(t.Context()))
			require.NoError(t, os.WriteFile(filepath.Join(s.dataDir(), "postmaster.pid"), []byte(content), 0o600))
			require.NoError(t, s.Start(t.Context()))
			query(t, s, "select 1")
		})
	}
}

// A directory that other users may not enter, as /root is.
func TestDataBelowAClosedDirectory(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	s := newServer(t, filepath.Join(closed, "below"))
	require.NoError(t, s.Start(t.Context()))
	query(t, s, "create table kept (n int)")
}

func TestErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	err := newServer(t, filepath.Join(file, "dir")).Start(t.Context())
	require.ErrorContains(t, err, "cannot be made")
	require.NotContains(t, err.Error(), "\n")

	s, err := New(Options{Dir: t.TempDir(), Unsafe: true, Settings: map[string]string{"no_such_setting": "1"}})
	require.NoError(t, err)
	err = s.Start(t.Context())
	require.ErrorContains(t, err, "no_such_setting")
	require.NotContains(t, err.Error(), "\n")

	_, err = New(Options{})
	require.ErrorContains(t, err, "Options.Dir is missing")
}
