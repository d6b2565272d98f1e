package disk

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies/signing"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// kept is a directory with the snapshot of a platform, confirmed.
type kept struct {
	dir      string
	platform *feedtest.Platform
	signer   *signing.Signer
}

func keep(t *testing.T) kept {
	t.Helper()
	key, err := signing.Generate()
	require.NoError(t, err)
	signer, err := signing.NewSigner(key)
	require.NoError(t, err)
	k := kept{filepath.Join(t.TempDir(), "below"), feedtest.New(t, "p", feedtest.Account(t, "a")), signer}
	k.platform.WriteEnvironments("a", "e", 100)
	k.write(t, k.keeper(t, "token"))
	return k
}

func (k kept) keeper(t *testing.T, token string) *Keeper {
	t.Helper()
	keeper, err := New(Options{
		Dir: k.dir, Key: Key(token), State: k.platform.State, Verifier: k.signer.Verifier(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return keeper
}

func (k kept) beat(t *testing.T, at authz.Header) *feed.Heartbeat {
	t.Helper()
	beat := &feed.Heartbeat{Platform: at.Platform, Revision: at.Revision, Hash: at.Hash, Time: now, Nonce: "01"}
	require.NoError(t, beat.Sign(k.signer))
	return beat
}

func (k kept) write(t *testing.T, keeper *Keeper) {
	t.Helper()
	keeper.Confirm(k.beat(t, k.platform.State().Header()))
	keeper.keep(t.Context(), true, false)
}

func (k kept) path(name string) string { return filepath.Join(k.dir, name) }

func TestWhatWasKeptIsLoaded(t *testing.T) {
	t.Parallel()
	k := keep(t)
	loader := k.keeper(t, "token")
	got := loader.Load(t.Context())
	require.Equal(t, k.platform.State().Header(), got.State.Header())
	require.Equal(t, int(now.Unix()), value(t, loader.metrics.confirmed), "how old it is, is known before the next is kept")
	require.Equal(t, feedtest.Objects(t, k.platform.State()), feedtest.Objects(t, got.State))
	require.Equal(t, now, got.Confirmed.Time.UTC())
	info, err := os.Stat(k.path(snapshotFile))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077, "nobody else reads it")

	// Nothing is there, which is no fault.
	empty := k
	empty.dir = t.TempDir()
	keeper := empty.keeper(t, "token")
	require.Nil(t, keeper.Load(t.Context()).State)
	require.Equal(t, 1, value(t, keeper.metrics.loads.WithLabelValues("none")))
}

// What is not what this sidecar wrote counts as nothing, and the next snapshot takes
// its place.
func TestForeignFilesAreRefused(t *testing.T) {
	t.Parallel()
	spoils := map[string]func(t *testing.T, k kept) (token string){
		"cut short": func(t *testing.T, k kept) string {
			t.Helper()
			info, err := os.Stat(k.path(snapshotFile))
			require.NoError(t, err)
			require.NoError(t, os.Truncate(k.path(snapshotFile), info.Size()-5))
			return "token"
		},
		"empty": func(t *testing.T, k kept) string {
			t.Helper()
			require.NoError(t, os.Truncate(k.path(snapshotFile), 0))
			return "token"
		},
		"altered": func(t *testing.T, k kept) string {
			t.Helper()
			data, err := os.ReadFile(k.path(snapshotFile))
			require.NoError(t, err)
			data[len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(k.path(snapshotFile), data, 0o600))
			return "token"
		},
		"not ours": func(t *testing.T, k kept) string {
			t.Helper()
			require.NoError(t, os.WriteFile(k.path(snapshotFile), []byte("something else"), 0o600))
			return "token"
		},
		"another's token": func(*testing.T, kept) string { return "another" },
		"a directory": func(t *testing.T, k kept) string {
			t.Helper()
			require.NoError(t, os.Remove(k.path(snapshotFile)))
			require.NoError(t, os.Mkdir(k.path(snapshotFile), 0o700))
			return "token"
		},
		"altered, a line": func(t *testing.T, k kept) string {
			t.Helper()
			k.rewrite(t, `"type":"object"`, `"type":"abject"`)
			return "token"
		},
		"altered, what a line says": func(t *testing.T, k kept) string {
			t.Helper()
			k.rewrite(t, `"id":"e17"`, `"id":"e-x"`)
			return "token"
		},
	}
	says := map[string]string{
		"cut short": "it is cut short", "empty": "it is cut short", "another's token": "it was not written by a sidecar with this token",
		"a directory": "is a directory",
	}
	for name, spoil := range spoils {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keep(t)
			token := spoil(t, k)
			keeper := k.keeper(t, token)
			require.Nil(t, keeper.Load(t.Context()).State)
			require.Equal(t, 1, value(t, keeper.metrics.loads.WithLabelValues("refused")))
			_, err := readSnapshot(t.Context(), k.dir, Key(token))
			require.ErrorContains(t, err, cmp.Or(says[name], "it was altered or damaged: "))
			if name == "a directory" {
				require.NoError(t, os.Remove(k.path(snapshotFile))) // rename does not replace it
			}
			k.write(t, keeper)
			require.NotNil(t, k.keeper(t, token).Load(t.Context()).Confirmed, "the next one is good")
		})
	}
}

// rewrite puts text in the place of other text within the snapshot's lines.
func (k kept) rewrite(t *testing.T, old, text string) {
	t.Helper()
	packed, err := os.ReadFile(k.path(snapshotFile))
	require.NoError(t, err)
	in, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer in.Close()
	lines, err := in.DecodeAll(packed, nil)
	require.NoError(t, err)
	require.True(t, bytes.Contains(lines, []byte(old)))
	out, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	packed = out.EncodeAll(bytes.Replace(lines, []byte(old), []byte(text), 1), nil)
	require.NoError(t, os.WriteFile(k.path(snapshotFile), packed, 0o600))
}

// A confirmation counts only if it is genuine and of the snapshot beside it.
func TestConfirmationIsVerified(t *testing.T) {
	t.Parallel()
	k := keep(t)
	forged := k.beat(t, k.platform.State().Header())
	forged.Time = now.Add(time.Hour)
	require.NoError(t, writeConfirmed(k.dir, Key("token"), forged))
	got := k.keeper(t, "token").Load(t.Context())
	require.NotNil(t, got.State)
	require.Nil(t, got.Confirmed, "its signature is of another time")

	k.platform.WriteEnvironments("a", "f", 1)
	require.NoError(t, writeConfirmed(k.dir, Key("token"), k.beat(t, k.platform.State().Header())))
	require.Nil(t, k.keeper(t, "token").Load(t.Context()).Confirmed, "it is of a later revision")

	require.NoError(t, writeConfirmed(k.dir, Key("another"), k.beat(t, k.platform.State().Header())))
	require.Nil(t, k.keeper(t, "token").Load(t.Context()).Confirmed, "another wrote it")
}

// Who is killed between the two files has a snapshot that is good: it was confirmed after
// the revision that the other file names.
func TestKilledBetweenTheFiles(t *testing.T) {
	t.Parallel()
	k := keep(t)
	before := k.platform.State().Header()
	k.platform.WriteEnvironments("a", "f", 1)
	require.NoError(t, writeSnapshot(t.Context(), k.dir, Key("token"), k.platform.State(), now, false))
	keeper := k.keeper(t, "token")
	got := keeper.Load(t.Context())
	require.Equal(t, k.platform.State().Header(), got.State.Header())
	require.Equal(t, before.Revision, got.Confirmed.Revision)

	later := k.beat(t, k.platform.State().Header())
	later.Time = now.Add(time.Second)
	require.NoError(t, later.Sign(k.signer))
	keeper.Confirm(later)
	keeper.keep(t.Context(), true, false)
	require.Equal(t, later.Revision, k.keeper(t, "token").Load(t.Context()).Confirmed.Revision)

	elsewhere := k.beat(t, before)
	elsewhere.Platform = "another"
	require.NoError(t, elsewhere.Sign(k.signer))
	require.NoError(t, writeConfirmed(k.dir, Key("token"), elsewhere))
	require.Nil(t, k.keeper(t, "token").Load(t.Context()).Confirmed, "it is another platform's")
}

// What cannot be written is counted, and the last good snapshot stays; what a killed
// process left is swept away.
func TestFaultsOfTheDisk(t *testing.T) {
	t.Parallel()
	k := keep(t)
	before := k.platform.State().Header()
	half := k.path("." + snapshotFile + "-123")
	require.NoError(t, os.WriteFile(half, []byte("half"), 0o600))
	keeper := k.keeper(t, "token")
	require.Equal(t, before, keeper.Load(t.Context()).State.Header())
	require.NoFileExists(t, half)

	k.platform.WriteEnvironments("a", "f", 1)
	aside := k.dir + ".aside"
	require.NoError(t, os.Rename(k.dir, aside))
	require.NoError(t, os.WriteFile(k.dir, nil, 0o600)) // nothing can be written below a file
	k.write(t, keeper)
	require.Equal(t, 1, value(t, keeper.metrics.writes.WithLabelValues("failed")))
	require.NoError(t, os.Remove(k.dir))
	require.NoError(t, os.Rename(aside, k.dir))
	require.Equal(t, before, k.keeper(t, "token").Load(t.Context()).State.Header())

	k.write(t, keeper)
	require.Equal(t, k.platform.State().Header(), k.keeper(t, "token").Load(t.Context()).State.Header())
	require.Equal(t, 1, value(t, keeper.metrics.writes.WithLabelValues("good")))

	// A writer that is stopped in the middle leaves the file as it was.
	k.platform.WriteEnvironments("a", "g", 1000)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, writeSnapshot(stopped, k.dir, Key("token"), k.platform.State(), now, false), context.Canceled)
	left, err := os.ReadDir(k.dir)
	require.NoError(t, err)
	require.Len(t, left, 2)
}

func TestRunKeepsOnceMoreAtTheEnd(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.platform.WriteEnvironments("a", "f", 1)
	keeper := k.keeper(t, "token")
	keeper.Confirm(k.beat(t, k.platform.State().Header()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	keeper.Run(ctx)
	require.NotNil(t, k.keeper(t, "token").Load(t.Context()).Confirmed)
	require.Equal(t, k.platform.State().Header(), k.keeper(t, "token").Load(t.Context()).State.Header())
}

// value is what a counter stands at.
func value(t *testing.T, m prometheus.Metric) int {
	t.Helper()
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return int(out.GetCounter().GetValue() + out.GetGauge().GetValue()) // it has one of the two
}

// What is written at ease rests for longer than it works, and not beyond the end.
func TestEased(t *testing.T) {
	t.Parallel()
	const work = 3 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	began := time.Now()
	w := &eased{ctx: ctx, w: &out, since: began.Add(-work)}
	n, err := w.Write([]byte("line"))
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.GreaterOrEqual(t, time.Since(began), rest*work)

	w.since = time.Now().Add(-time.Hour)
	time.AfterFunc(work, stop)
	_, err = w.Write([]byte("s"))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "lines", out.String())
}

// Whoever stops in the midst of a snapshot that is written at ease has it whole, and no
// fault is counted.
func TestStoppedAtEase(t *testing.T) {
	t.Parallel()
	k := keep(t)
	k.platform.WriteEnvironments("a", "more", 2000) // a few batches
	keeper, err := New(Options{
		Dir: k.dir, Key: Key("token"), State: k.platform.State, Interval: time.Millisecond, ConfirmInterval: time.Millisecond,
	})
	require.NoError(t, err)
	require.NotNil(t, keeper.Load(t.Context()).State)
	keeper.Confirm(k.beat(t, k.platform.State().Header()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { keeper.Run(ctx); close(ended) }()
	require.Eventually(t, func() bool {
		names, err := filepath.Glob(k.path("." + snapshotFile + "-*"))
		return err == nil && len(names) > 0 || value(t, keeper.metrics.writes.WithLabelValues("good")) > 0
	}, time.Minute, 100*time.Microsecond)
	stop()
	<-ended
	require.Equal(t, 1, value(t, keeper.metrics.writes.WithLabelValues("good")))
	require.Zero(t, value(t, keeper.metrics.writes.WithLabelValues("failed")))
	require.Equal(t, k.platform.State().Header(), k.keeper(t, "token").Load(t.Context()).State.Header())
}
