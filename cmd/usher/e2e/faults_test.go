package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// soon is when a part must be well again after a fault.
const soon = 60 * time.Second

// fleet is a platform with an admin server and two sidecars of its own, which can be
// done harm to. What is written goes by the platform's other admin server.
type fleet struct {
	*platform

	all       testing.TB // the whole test, with which processes end
	frail     *process   // the admin server that feeds the sidecars
	net       *network   // the resident one's way to it
	dir       string     // the resident one's
	resident  *process
	onDemand  *process
	addresses struct{ frail, resident, onDemand string }
	grantURL  string
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{platform: startDev(t), all: t, dir: filepath.Join(t.TempDir(), "snapshot")}
	f.addresses.frail, f.addresses.resident, f.addresses.onDemand = freePort(t), freePort(t), freePort(t)
	f.must(t, http.MethodPost, f.admin+"/v1/import", []any{document("own", "mia", 200)})
	f.grantURL = f.admin + "/v1/accounts/own/members/" + f.memberID(t, f.admin, "own", "mia") + "/grants/environment/own-env-0"
	f.frail = start(t, []string{"USHER_SIGNING_KEY_FILE=" + f.env["USHER_SIGNING_KEY_FILE"]}, binary(t, "usher"),
		"admin", "--database-url", f.env["USHER_DATABASE_URL"], "--listen", f.addresses.frail)
	f.net = newNetwork(t, f.addresses.frail)
	f.startResident(t)
	f.startOnDemand(t)
	f.grant(t)
	return f
}

func (f *fleet) residentURL() string { return "http://" + f.addresses.resident }
func (f *fleet) onDemandURL() string { return "http://" + f.addresses.onDemand }

func (f *fleet) sidecarEnv() []string {
	return []string{"USHER_TOKEN=" + f.token, "USHER_VERIFICATION_KEY_FILE=" + f.env["USHER_VERIFICATION_KEY_FILE"]}
}

func (f *fleet) residentArgs() []string {
	return []string{"sidecar", "--name", "frail", "--admin-url", f.net.url(), "--listen", f.addresses.resident, "--dir", f.dir}
}

func (f *fleet) startResident(t *testing.T) {
	t.Helper()
	f.resident = start(f.all, f.sidecarEnv(), binary(t, "usher"), f.residentArgs()...)
}

func (f *fleet) startOnDemand(t *testing.T) {
	t.Helper()
	f.onDemand = start(f.all, f.sidecarEnv(), binary(t, "usher"), "sidecar", "--mode", "on-demand", "--admin-url", "http://"+f.addresses.frail,
		"--listen", f.addresses.onDemand, "--redis-url", f.env["USHER_REDIS_URL"], "--redis-key-file", f.env["USHER_REDIS_KEY_FILE"])
}

func asked() question { return question{"mia", viewAction, "environment", "own-env-0"} }

// grant lets mia see the environment, and waits until both sidecars say so.
func (f *fleet) grant(t *testing.T) {
	t.Helper()
	a := f.must(t, http.MethodPut, f.grantURL, map[string]any{"roles": []string{"viewer"}})
	for _, door := range []string{f.residentURL(), f.onDemandURL()} {
		eventually(t, soon, door+" allows", func() error {
			d, err := f.evaluate(door, asked(), a.revision)
			if err == nil && !d.Decision {
				t.Fatalf("%s denies what was granted at %d: %+v", door, a.revision, d)
			}
			return err
		})
	}
}

// revoke takes that away.
func (f *fleet) revoke(t *testing.T) uint64 {
	t.Helper()
	return f.must(t, http.MethodDelete, f.grantURL, nil).revision
}

var errStill = errors.New("it does not answer from there yet")

// denies waits until door denies at revision. It may not be able to answer for a while,
// but an allow from there is wrong.
func (f *fleet) denies(t *testing.T, door string, revision uint64) {
	t.Helper()
	eventually(t, soon, door+" denies", func() error { return f.mayNotAllow(t, door, revision) })
}

// mayNotAllow asks once, and gives an error if there is no answer.
func (f *fleet) mayNotAllow(t *testing.T, door string, revision uint64) error {
	t.Helper()
	d, err := f.evaluate(door, asked(), revision)
	if err != nil {
		return errors.Join(errStill, err)
	}
	if d.Decision || d.Context.Revision < revision {
		t.Fatalf("%s: a wrong answer after revision %d: %+v", door, revision, d)
	}
	return nil
}

// metric is the sum of the series of /metrics that begin with prefix.
func (f *fleet) metric(door, prefix string) (float64, error) {
	a, err := f.call(http.MethodGet, door+"/metrics", nil, nil)
	sum := 0.0
	for line := range strings.Lines(string(a.body)) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		fields := strings.Fields(line)
		n, parseErr := strconv.ParseFloat(fields[len(fields)-1], 64)
		sum, err = sum+n, errors.Join(err, parseErr)
	}
	return sum, err
}

// tells waits for a metric to be as is says.
func (f *fleet) tells(t *testing.T, door, prefix string, is func(float64) bool) {
	t.Helper()
	eventually(t, soon, prefix, func() error {
		n, err := f.metric(door, prefix)
		if err == nil && !is(n) {
			err = fmt.Errorf("%s is %v", prefix, n)
		}
		return err
	})
}

func positive(n float64) bool { return n > 0 }
func zero(n float64) bool     { return n == 0 }

// TestFaults does harm, one after the other, to what serves. In each: no wrong allow,
// all is well again without a hand, and metrics and logs tell what it was.
func TestFaults(t *testing.T) {
	f := startFleet(t)
	t.Run("the admin server is frozen", f.frozenAdmin)
	t.Run("the network is cut", f.cutNetwork)
	t.Run("the network is slow", f.slowNetwork)
	t.Run("the signing key is replaced", f.replacedKey)
	t.Run("an epoch begins by hand", f.epochByHand)
	t.Run("Redis is frozen", f.frozenRedis)
	t.Run("Redis is flushed and killed", f.lostRedis)
	t.Run("Redis is poisoned", f.poisonedRedis)
	t.Run("killed while it writes its snapshot", f.killedWriting)
	t.Run("stopped after a revocation", f.stoppedAfterRevocation)
	t.Run("killed after a revocation", f.killedAfterRevocation)
	t.Run("the snapshot is altered", f.alteredSnapshot)
	t.Run("the disk is full", f.fullDisk)
	t.Run("the clock is behind", f.wrongClock)
	t.Run("PostgreSQL is restored", f.restoredDatabase)
}

func (f *fleet) frozenAdmin(t *testing.T) {
	f.grant(t)
	require.NoError(t, f.frail.cmd.Process.Signal(syscall.SIGSTOP))
	revoked := f.revoke(t) // by the other one
	require.Error(t, f.mayNotAllow(t, f.residentURL(), revoked))
	require.Error(t, f.mayNotAllow(t, f.onDemandURL(), revoked))
	f.tells(t, f.residentURL(), "usher_feed_connected ", zero)
	f.tells(t, f.residentURL(), `usher_feed_disconnects_total{cause="silent"}`, positive)
	require.NoError(t, f.frail.cmd.Process.Signal(syscall.SIGCONT))
	f.denies(t, f.residentURL(), revoked)
	f.denies(t, f.onDemandURL(), revoked)
	f.tells(t, f.residentURL(), "usher_feed_connected ", positive)
	require.Contains(t, f.resident.output.String(), "feed fell silent")
}

func (f *fleet) cutNetwork(t *testing.T) {
	f.grant(t)
	f.net.cut()
	revoked := f.revoke(t)
	require.Error(t, f.mayNotAllow(t, f.residentURL(), revoked))
	f.denies(t, f.onDemandURL(), revoked) // it has another way
	f.tells(t, f.residentURL(), "usher_feed_connected ", zero)
	f.net.mend()
	f.denies(t, f.residentURL(), revoked)
}

func (f *fleet) slowNetwork(t *testing.T) {
	f.grant(t)
	f.net.slow()
	for range 20 { // more than gets through
		f.must(t, http.MethodPut, f.grantURL, map[string]any{"roles": []string{"viewer"}, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)})
	}
	revoked := f.revoke(t)
	f.denies(t, f.onDemandURL(), revoked) // no slower for that
	_ = f.mayNotAllow(t, f.residentURL(), revoked)
	f.tells(t, f.residentURL(), "usher_feed_age_seconds ", func(n float64) bool { return n > 2 })
	f.net.mend()
	f.denies(t, f.residentURL(), revoked)
}

// redis is a client of the platform's Redis.
func (f *fleet) redis(t *testing.T) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(f.env["USHER_REDIS_URL"])
	require.NoError(t, err)
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// signalRedis sends sig to the server's process.
func (f *fleet) signalRedis(t *testing.T, sig syscall.Signal) (pid int) {
	t.Helper()
	info := f.redis(t).InfoMap(context.Background(), "server").Val()
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	require.NoError(t, err, "the machine needs a redis-server: %v", info)
	require.NoError(t, syscall.Kill(pid, sig))
	return pid
}

func (f *fleet) frozenRedis(t *testing.T) {
	f.grant(t)
	pid := f.signalRedis(t, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	f.denies(t, f.onDemandURL(), f.revoke(t))
	f.grant(t)
	for i := range 50 { // cold ones
		d, err := f.evaluate(f.onDemandURL(), question{"own", viewAction, "environment", "own-env-" + strconv.Itoa(i)}, 0)
		require.NoError(t, err)
		require.True(t, d.Decision)
	}
	f.tells(t, f.onDemandURL(), `usher_ondemand_breaker_state{layer="redis"}`, positive)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	f.denies(t, f.onDemandURL(), f.revoke(t))
	i := 50
	f.tells(t, f.onDemandURL(), `usher_ondemand_breaker_state{layer="redis"}`, func(n float64) bool {
		i++ // the breaker closes by a question that it lets through
		_, err := f.evaluate(f.onDemandURL(), question{"mia", viewAction, "environment", "own-env-" + strconv.Itoa(i%200)}, 0)
		return err == nil && n == 0
	})
	require.Contains(t, f.onDemand.output.String(), "on-demand layer fails")
	require.Contains(t, f.onDemand.output.String(), "on-demand layer answers again")
}

func (f *fleet) lostRedis(t *testing.T) {
	f.grant(t)
	require.NoError(t, f.redis(t).FlushAll(context.Background()).Err())
	f.denies(t, f.onDemandURL(), f.revoke(t))
	f.grant(t)
	f.signalRedis(t, syscall.SIGKILL)
	f.denies(t, f.onDemandURL(), f.revoke(t))
	f.grant(t)
	eventually(t, soon, "Redis is there again", func() error { return f.redis(t).Ping(context.Background()).Err() })
}

// poisonedRedis gives each key the entry of another one, all of them genuine, and adds
// rubbish, to a sidecar that has nothing in memory.
func (f *fleet) poisonedRedis(t *testing.T) {
	f.grant(t)
	questions := make([]question, 20)
	for i := range questions {
		questions[i] = question{[]string{"own", "mia"}[i%2], viewAction, "environment", "own-env-" + strconv.Itoa(i)}
	}
	want, err := f.evaluateAll(f.residentURL(), questions, 0)
	require.NoError(t, err)
	ctx, client := context.Background(), f.redis(t)
	f.onDemand.kill() // what it has in memory it would not put into Redis again
	f.startOnDemand(t)
	eventually(t, soon, "Redis is filled", func() error {
		_, err := f.evaluateAll(f.onDemandURL(), questions, 0)
		if n := len(client.Keys(ctx, "*/p/*").Val()); n < len(questions) { // they are written behind the answers
			err = errors.Join(err, fmt.Errorf("%d permissions", n))
		}
		return err
	})
	f.onDemand.kill()
	keys := client.Keys(ctx, "*").Val()
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = client.Get(ctx, key).Val()
	}
	for i, key := range keys {
		value := values[(i+1)%len(values)]
		if i%5 == 0 {
			value = "rubbish"
		}
		require.NoError(t, client.Set(ctx, key, value, 0).Err())
	}
	f.startOnDemand(t)
	eventually(t, soon, "the sidecar answers", func() error {
		got, err := f.evaluateAll(f.onDemandURL(), questions, want[0].Context.Revision)
		if err == nil {
			for i := range got {
				require.Equal(t, want[i].Decision, got[i].Decision, "%+v: %+v", questions[i], got[i])
			}
		}
		return err
	})
	f.tells(t, f.onDemandURL(), `usher_ondemand_lookups_total{kind="permissions",layer="redis",outcome="rejected"}`, positive)
	f.denies(t, f.onDemandURL(), f.revoke(t))
}

// alone starts the resident sidecar with the admin server out of reach, and waits for
// it to answer from disk.
func (f *fleet) alone(t *testing.T) decision {
	t.Helper()
	f.net.cut()
	t.Cleanup(f.net.mend) // for what comes next, if this fails
	f.startResident(t)
	var d decision
	eventually(t, soon, "it answers from disk", func() (err error) {
		d, err = f.evaluate(f.residentURL(), asked(), 0)
		return err
	})
	return d
}

func (f *fleet) killedWriting(t *testing.T) {
	f.grant(t)
	f.resident.stop(t, syscall.SIGTERM) // what is on disk then allows already
	f.startResident(t)
	for range 3 {
		f.grant(t)                                         // something to write: what is there is older
		_ = f.resident.cmd.Process.Signal(syscall.SIGTERM) // lets it write at once
		for begun := false; !begun; {                      // until it has begun, or is done
			left, err := filepath.Glob(filepath.Join(f.dir, ".snapshot*"))
			require.NoError(t, err)
			select {
			case <-f.resident.done:
				begun = true
			default:
				begun = len(left) > 0
			}
		}
		f.resident.kill()
		require.True(t, f.alone(t).Decision, "the one before or the new one, and whole")
		left, err := filepath.Glob(filepath.Join(f.dir, ".snapshot*"))
		require.NoError(t, err)
		require.Empty(t, left, "what was half written is taken away")
		f.net.mend()
	}
	f.denies(t, f.residentURL(), f.revoke(t))
}

// stoppedAfterRevocation ends the sidecar in good order right after a change: what it
// answers alone, from disk, is no older.
func (f *fleet) stoppedAfterRevocation(t *testing.T) {
	f.grant(t)
	revoked := f.revoke(t)
	f.denies(t, f.residentURL(), revoked)
	f.resident.stop(t, syscall.SIGTERM)
	d := f.alone(t)
	require.False(t, d.Decision)
	require.GreaterOrEqual(t, d.Context.Revision, revoked)
	f.net.mend()
}

// killedAfterRevocation leaves a snapshot on disk that is older than a revocation: with
// the admin server in reach, nothing is answered from it.
func (f *fleet) killedAfterRevocation(t *testing.T) {
	f.grant(t)
	f.resident.stop(t, syscall.SIGTERM) // which writes
	f.startResident(t)
	f.denies(t, f.residentURL(), f.revoke(t))
	f.resident.kill() // which does not
	f.startResident(t)
	eventually(t, soon, "it answers", func() error { return f.mayNotAllow(t, f.residentURL(), 0) })
}

func (f *fleet) alteredSnapshot(t *testing.T) {
	f.grant(t)
	f.resident.stop(t, syscall.SIGTERM)
	path := filepath.Join(f.dir, "snapshot.zst")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
	revoked := f.revoke(t)
	f.net.cut()
	f.startResident(t)
	f.tells(t, f.residentURL(), `usher_snapshot_loads_total{outcome="refused"}`, positive)
	require.Error(t, f.mayNotAllow(t, f.residentURL(), 0), "there is nothing to answer from")
	require.Contains(t, f.resident.output.String(), "snapshot on disk refused")
	f.net.mend()
	f.denies(t, f.residentURL(), revoked)
}

// fullDisk lets the sidecar write no file at all, which fails as a full disk does.
func (f *fleet) fullDisk(t *testing.T) {
	f.resident.stop(t, syscall.SIGTERM)
	f.dir = filepath.Join(f.all.TempDir(), "full")
	f.resident = start(f.all, f.sidecarEnv(), "bash", append([]string{"-c", `trap "" XFSZ; ulimit -S -f 0; exec "$0" "$@"`, binary(t, "usher")}, f.residentArgs()...)...)
	f.grant(t)
	f.tells(t, f.residentURL(), `usher_snapshot_writes_total{outcome="failed"}`, positive)
	f.denies(t, f.residentURL(), f.revoke(t))
	f.grant(t)
	require.Contains(t, f.resident.output.String(), "snapshot cannot be kept on disk")
	var limit unix.Rlimit
	require.NoError(t, unix.Prlimit(f.resident.cmd.Process.Pid, unix.RLIMIT_FSIZE, nil, &limit))
	limit.Cur = limit.Max
	require.NoError(t, unix.Prlimit(f.resident.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil))
	f.resident.stop(t, syscall.SIGTERM)
	require.True(t, f.alone(t).Decision)
	f.net.mend()
}
