package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/cmd/usher/bench"
)

// A whole run, as small as it can be: every figure is there, and no answer is wrong. The
// seed is its own: docs/performance.md has another size of the usual platform, and the
// same server.
func TestBench(t *testing.T) {
	t.Parallel()
	env := devEnv(t, filepath.Join(shared.home(t), ".usher"))
	var variables []string
	for name, value := range env {
		variables = append(variables, name+"="+value)
	}
	p, err := startUsher(t.TempDir(), variables, "bench", "--seed", "2", "--owners", "11", "--duration", "200ms", "--connections", "2",
		"--sidecars", "2", "--changes", "3", "--checks", "30000", "--output", "json")
	require.NoError(t, err)
	require.True(t, p.endsWithin(3*time.Minute), p.output)
	require.Zero(t, p.code(), p.output)
	_, text, found := strings.Cut(p.output.String(), "{") // after the progress
	require.True(t, found, p.output)
	var report bench.Report
	require.NoError(t, json.Unmarshal([]byte("{"+text), &report), text)
	require.Equal(t, 550, report.Grants)
	require.Len(t, report.Loads, 8)
	for _, l := range report.Loads {
		require.Positive(t, l.Checks, l.Name)
		require.Zero(t, l.Wrong+l.Errors, l.Name)
		requests := 0
		for _, bucket := range l.Histogram {
			requests += bucket.Requests
		}
		require.Contains(t, []int{requests, 100 * requests}, l.Checks, l.Name) // of a batch
	}
	require.Zero(t, report.Hot.Allocations)
	require.Positive(t, report.BytesPerGrant)
	require.Greater(t, report.OPABytesPerGrant, report.BytesPerGrant)
	require.Positive(t, report.Miss.OfFloor)
	require.Positive(t, report.Disk.Bytes)
	require.Positive(t, report.Disk.OfFloor)
	require.GreaterOrEqual(t, report.Peak, report.Resident)
	require.GreaterOrEqual(t, report.Loads[6].Checks+report.Loads[7].Checks, 30_000)
	require.Equal(t, 3, report.Revocation.Changes)
	require.Positive(t, report.Revocation.P50)
	require.Positive(t, report.Loaded.Changes)
	require.Positive(t, report.InRedis.OfFloor)
	require.Zero(t, report.InRedis.Wrong)
}
