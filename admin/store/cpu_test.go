package store_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// serverCPU is the CPU time that the server's processes for one database have used,
// as Linux counts it: what a benchmark costs whatever else the machine does. It is 0
// where there is no /proc.
func serverCPU(tb testing.TB, url string) time.Duration {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, conn.Close(tb.Context())) }()
	rows, err := conn.Query(tb.Context(), `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	require.NoError(tb, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(tb, err)
	var ticks int64
	for _, pid := range pids {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		for _, f := range fields[11:13] { // utime, stime
			n, err := strconv.ParseInt(f, 10, 64)
			require.NoError(tb, err)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100
}

// ownCPU is the CPU time of this process.
func ownCPU(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
