package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// replacedKey lets an admin server come back with another signing key. A sidecar that was
// given both public keys goes on without a gap; one that has only the old key stays where
// it was, says so, and follows once it is given the new one.
func (f *fleet) replacedKey(t *testing.T) {
	f.grant(t)
	old, next := f.env["USHER_SIGNING_KEY_FILE"], filepath.Join(t.TempDir(), "next.pem")
	code, output := f.usher(t, "keys", "create", next)
	require.Zero(t, code, output)
	address, warned, ready := freePort(t), freePort(t), freePort(t)
	serve := func(key string) *process {
		return start(t, []string{"USHER_SIGNING_KEY_FILE=" + key}, binary(t, "usher"),
			"admin", "--database-url", f.env["USHER_DATABASE_URL"], "--listen", address)
	}
	follow := func(listen string, keys ...string) *process {
		args := []string{"sidecar", "--admin-url", "http://" + address, "--listen", listen, "--min-revision-wait", "200ms"}
		for _, key := range keys {
			args = append(args, "--verification-key-file", key+".pub")
		}
		return start(t, []string{"USHER_TOKEN=" + f.token}, binary(t, "usher"), args...)
	}
	frail := serve(old)
	left := follow(warned, old)
	both := follow(ready, old, next)
	warned, ready = "http://"+warned, "http://"+ready
	for _, door := range []string{warned, ready} {
		eventually(t, soon, door+" allows", func() error {
			d, err := f.evaluate(door, asked(), 0)
			if err == nil {
				require.True(t, d.Decision)
			}
			return err
		})
	}

	// Whoever asks all the while always gets an answer.
	asking, enough := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() { enough(); work.Wait() })
	work.Go(func() {
		for asking.Err() == nil {
			for _, door := range []string{warned, ready} {
				if _, err := f.evaluate(door, asked(), 0); err != nil {
					t.Errorf("%s: %v", door, err)
				}
			}
		}
	})
	frail.stop(t, syscall.SIGTERM)
	serve(next)
	revoked := f.revoke(t) // by another admin server
	f.denies(t, ready, revoked)
	f.tells(t, warned, `usher_feed_refusals_total{kind="unsigned"}`, positive)
	require.Error(t, f.mayNotAllow(t, warned, revoked))
	d, err := f.evaluate(warned, asked(), 0)
	require.NoError(t, err)
	require.True(t, d.Decision)
	require.Less(t, d.Context.Revision, revoked)
	require.Contains(t, left.output.String(), "feed refused, last good state kept")
	refused, err := f.metric(ready, "usher_feed_refusals_total")
	require.NoError(t, err)
	require.Zero(t, refused)
	enough()
	work.Wait()

	left.stop(t, syscall.SIGTERM)
	follow(strings.TrimPrefix(warned, "http://"), old, next)
	f.denies(t, warned, revoked)
	both.stop(t, syscall.SIGTERM) // while there is somebody to be told
}

// epochByHand begins an epoch by the command, which returns once every sidecar that is
// connected is there, or names those that are not. So does one that migrates nothing.
func (f *fleet) epochByHand(t *testing.T) {
	f.grant(t)
	begin := func(more ...string) (revision uint64, code int, output string) {
		code, output = f.usher(t, append([]string{"epoch", "new", "--wait"}, more...)...)
		var epoch uint64
		_, err := fmt.Sscanf(output, "epoch %d, revision %d\n", &epoch, &revision)
		require.NoError(t, err, output)
		require.Equal(t, epoch, revision>>40)
		return revision, code, output
	}
	revision, code, output := begin()
	require.Zero(t, code, output)
	for _, door := range []string{f.residentURL(), f.onDemandURL()} { // at once
		d, err := f.evaluate(door, asked(), 0)
		require.NoError(t, err)
		require.True(t, d.Decision)
		require.GreaterOrEqual(t, d.Context.Revision, revision, door)
	}

	require.NoError(t, f.resident.cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = f.resident.cmd.Process.Signal(syscall.SIGCONT) }) // for what comes next, if this fails
	revision, code, output = begin("--wait-limit", "100ms")
	behind := regexp.MustCompile(fmt.Sprintf(`it is written, but revision %d is not at \d+ of the sidecars after 100ms: .*frail`, revision))
	require.Equal(t, 1, code, output)
	require.Regexp(t, behind, output)
	code, output = f.usher(t, "migrate", "--wait", "--wait-limit", "100ms")
	require.Equal(t, 1, code, output)
	require.Contains(t, output, "up to date: nothing to do")
	require.Regexp(t, behind, output)
	require.NoError(t, f.resident.cmd.Process.Signal(syscall.SIGCONT))
	code, output = f.usher(t, "migrate", "--wait")
	require.Zero(t, code, output)
	f.denies(t, f.residentURL(), f.revoke(t))
}
