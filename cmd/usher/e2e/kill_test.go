package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killRounds is how often each process is killed at a random moment.
const killRounds = 4

// freePort is a loopback port that was free a moment ago.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer l.Close()
	return l.Addr().String()
}

// acknowledged remembers, for each grant written, what the last acknowledged
// write made of it, and whether a later write's outcome is unknown.
type acknowledged struct {
	mu      sync.Mutex
	granted map[string]bool
	unsure  map[string]bool
}

// TestKilledProcessesLoseNothing writes without a pause while an admin, a
// sidecar and PostgreSQL are killed at random moments, and compares what is
// there in the end with what was acknowledged.
func TestKilledProcessesLoseNothing(t *testing.T) {
	p := startDev(t)
	usher := binary(t, "usher")
	adminAddr, sidecarAddr := freePort(t), freePort(t)
	admin, sidecar := "http://"+adminAddr, "http://"+sidecarAddr
	runAdmin := func() *process {
		return start(t, nil, usher, "admin", "--database-url", p.env["USHER_DATABASE_URL"], "--listen", adminAddr)
	}
	runSidecar := func() *process {
		return start(t, []string{"USHER_TOKEN=" + p.token}, usher, "sidecar", "--admin-url", admin, "--listen", sidecarAddr)
	}
	isReady := func(base string) error {
		a, err := p.call(http.MethodGet, base+"/ready", nil, nil)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		return err
	}
	secondAdmin, secondSidecar := runAdmin(), runSidecar()
	// An admin that finds no database ends, and is started again, as whatever runs
	// it would do.
	adminReady := func() {
		eventually(t, 60*time.Second, "the second admin is ready", func() error {
			select {
			case <-secondAdmin.done:
				<-time.After(time.Second) // nor again and again at once: it would starve the database
				secondAdmin = runAdmin()
			default:
			}
			return isReady(admin)
		})
	}
	adminReady()
	eventually(t, 30*time.Second, "the second sidecar is ready", func() error { return isReady(sidecar) })
	p.must(t, http.MethodPost, admin+"/v1/import", []any{document("own", "mia", writers)})
	mia := p.memberID(t, admin, "own", "mia")

	state := acknowledged{granted: map[string]bool{}, unsure: map[string]bool{}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	acked := make([]int, writers)
	for i := range writers {
		wg.Go(func() {
			env := fmt.Sprintf("own-env-%d", i)
			url := admin + "/v1/accounts/own/members/" + mia + "/grants/environment/" + env
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				grant := n%2 == 0
				method, body := http.MethodPut, any(map[string]any{"roles": []string{"viewer"}})
				if !grant {
					method, body = http.MethodDelete, nil
				}
				a, err := p.call(method, url, body, nil)
				state.mu.Lock()
				switch {
				case err == nil && (a.status < 300 || a.status == http.StatusNotFound && !grant):
					// Not found: the write whose outcome was unknown had not taken effect, or had.
					state.granted[env], state.unsure[env] = grant, false
					acked[i]++
				default:
					state.unsure[env] = true
				}
				state.mu.Unlock()
			}
		})
	}

	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	pause := func() { <-time.After(time.Duration(100+random.IntN(400)) * time.Millisecond) }
	for range killRounds {
		pause()
		secondAdmin.kill()
		secondAdmin = runAdmin()
		adminReady()
		pause()
		secondSidecar.kill()
		secondSidecar = runSidecar()
		pause()
		killPostgres(t, p.dir)
		adminReady()
	}
	pause()
	close(stop)
	wg.Wait()

	// A last write makes the outcome of every one before it certain.
	var last uint64
	eventually(t, 30*time.Second, "a write after the last kill", func() error {
		a, err := p.call(http.MethodPut, p.admin+"/v1/accounts/after", map[string]string{"email": "after@example.com"}, nil)
		if err == nil && a.status >= 300 {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		last = a.revision
		return err
	})
	total := 0
	for i := range writers {
		env := fmt.Sprintf("own-env-%d", i)
		total += acked[i]
		for _, door := range []string{p.admin, admin, p.resident, p.onDemand, sidecar} {
			eventually(t, 30*time.Second, door+" answers at the last revision", func() error {
				d, err := p.evaluate(door, question{"mia", viewAction, "environment", env}, last)
				if err == nil && !state.unsure[env] && d.Decision != state.granted[env] {
					t.Fatalf("%s: %s is %v, acknowledged was %v", door, env, d.Decision, state.granted[env])
				}
				return err
			})
		}
	}
	require.Greater(t, total, killRounds, "hardly anything was written between the kills")
	failures, err := (&fleet{platform: p}).metric(p.admin, "usher_admin_tail_failures_total ")
	require.NoError(t, err)
	require.Positive(t, failures)
	logged, err := os.ReadFile(filepath.Join(p.dir, "admin.log"))
	require.NoError(t, err)
	require.Contains(t, string(logged), "the log is followed again")
	t.Logf("%d acknowledged writes, none lost", total)
}

// kill ends p as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// killPostgres ends the PostgreSQL that runs below dir as a crash would.
func killPostgres(tb testing.TB, dir string) {
	tb.Helper()
	var pidFile string
	require.NoError(tb, filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		if filepath.Base(path) == "postmaster.pid" {
			pidFile = path
		}
		return nil
	}))
	require.NotEmpty(tb, pidFile, "no postmaster.pid below %s", dir)
	data, err := os.ReadFile(pidFile)
	require.NoError(tb, err)
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	require.NoError(tb, err)
	require.NoError(tb, syscall.Kill(pid, syscall.SIGKILL))
}

// TestDevKilledKeepsItsData kills the whole of `usher dev` and starts it again on
// the same directory.
func TestDevKilledKeepsItsData(t *testing.T) {
	p := startDev(t)
	p.must(t, http.MethodPost, p.admin+"/v1/import", []any{document("own", "mia", 1)})
	mia := p.memberID(t, p.admin, "own", "mia")
	a := p.must(t, http.MethodPut, p.admin+"/v1/accounts/own/members/"+mia+"/grants/environment/own-env-0",
		map[string]any{"roles": []string{"viewer"}})
	p.kill()
	require.NoError(t, os.Remove(filepath.Join(p.dir, "dev.env"))) // so that readEnv waits for the new one

	began := time.Now()
	p.process = start(t, nil, binary(t, "usher"), "dev", "--dir", p.dir, "--no-demo",
		"--admin-listen", "127.0.0.1:0", "--sidecar-listen", "127.0.0.1:0")
	p.readEnv(t)
	require.Less(t, time.Since(began), 30*time.Second, "ready again")
	for _, door := range []string{p.admin, p.resident, p.onDemand} {
		d, err := p.evaluate(door, question{"mia", viewAction, "environment", "own-env-0"}, a.revision)
		require.NoError(t, err)
		require.True(t, d.Decision, "%s: %+v", door, d)
	}
}
