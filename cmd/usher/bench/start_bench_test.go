package bench

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/disk"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// BenchmarkStart is the engine's share of a start from disk at 50,000 and 1,000,000
// grants, beside reading and hashing the file, and what the state then takes.
func BenchmarkStart(b *testing.B) {
	for name, owners := range map[string]int{"grants=50000": 1000, "grants=1000000": 20_000} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			keeper := func(state func() *authz.State) *disk.Keeper {
				k, err := disk.New(disk.Options{Dir: dir, Key: disk.Key("token"), State: state})
				require.NoError(b, err)
				return k
			}
			_, state := generated(b, owners)
			keepState(b, state, keeper)
			floor := time.Hour
			for range 5 {
				floor = min(floor, readAndHash(b, filepath.Join(dir, "snapshot.zst")))
			}
			least, processor, bytes := time.Hour, time.Hour, 0.0
			for b.Loop() {
				before, began, worked := liveHeap(), time.Now(), ownProcessorTime(b)
				loaded := keeper(func() *authz.State { return nil }).Load(context.Background()).State
				least, processor = min(least, time.Since(began)), min(processor, ownProcessorTime(b)-worked)
				require.NotNil(b, loaded)
				bytes = float64(liveHeap()) - float64(before)
				runtime.KeepAlive(loaded)
			}
			b.ReportMetric(float64(least)/float64(floor), "×floor")
			b.ReportMetric(least.Seconds(), "s")
			b.ReportMetric(processor.Seconds(), "cpu-s")
			b.ReportMetric(bytes/float64(owners*grantsEach), "B/grant")
		})
	}
}

// generated is a platform, and its state, as after an import.
func generated(b *testing.B, owners int) (*platform, *authz.State) {
	b.Helper()
	p, err := generate(1, owners)
	require.NoError(b, err)
	modules, err := policiestest.PolicyInForce()
	require.NoError(b, err)
	builder := authz.NewBuilder(authz.Header{Platform: "bench", Revision: 1})
	o, err := policies.NewObject(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), modules)
	require.NoError(b, err)
	require.NoError(b, builder.Add(o))
	for _, d := range p.documents {
		objects, err := d.Objects()
		require.NoError(b, err)
		for _, o := range objects {
			require.NoError(b, builder.Add(o))
		}
	}
	state, err := builder.Build(context.Background())
	require.NoError(b, err)
	return p, state
}

// keepState has a keeper write state.
func keepState(b *testing.B, state *authz.State, keeper func(func() *authz.State) *disk.Keeper) {
	b.Helper()
	at := state.Header()
	k := keeper(func() *authz.State { return state })
	k.Confirm(&feed.Heartbeat{Platform: at.Platform, Revision: at.Revision, Hash: at.Hash, Time: time.Now()})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	k.Run(ended) // keeps once more at the end
}

// ownProcessorTime is what this process has taken so far, of user and kernel.
func ownProcessorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func readAndHash(b *testing.B, path string) time.Duration {
	b.Helper()
	began := time.Now()
	file, err := os.Open(path)
	require.NoError(b, err)
	_, err = io.Copy(sha256.New(), file)
	require.NoError(b, err)
	require.NoError(b, file.Close())
	return time.Since(began)
}
