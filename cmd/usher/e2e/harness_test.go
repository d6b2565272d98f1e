// Package e2e tests usher as its users meet it: the real binary, real
// PostgreSQL, Redis and stock OPA processes, and HTTP.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies/policiestest"
)

// binaries are built once for the whole run.
var binaries struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		_ = os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// binary is the path of one of the project's programs, or of the stock opa that
// go.mod pins.
func binary(tb testing.TB, name string) string {
	tb.Helper()
	binaries.Do(func() {
		binaries.dir, binaries.err = os.MkdirTemp("", "usher-e2e-bin-") //nolint:usetesting // outlives the test that builds them
		if binaries.err != nil {
			return
		}
		// The servers run as an unprivileged user may have to reach the programs.
		binaries.err = os.Chmod(binaries.dir, 0o755)
		for _, pkg := range []string{"github.com/usher-authz/usher/cmd/usher", "github.com/open-policy-agent/opa"} {
			if binaries.err != nil {
				return
			}
			build := exec.Command("go", "build", "-o", binaries.dir, pkg)
			var out []byte
			if out, binaries.err = build.CombinedOutput(); binaries.err != nil {
				binaries.err = fmt.Errorf("build %s: %w\n%s", pkg, binaries.err, out)
			}
		}
	})
	require.NoError(tb, binaries.err)
	return filepath.Join(binaries.dir, name)
}

// process is a program under test, ended with the test at the latest.
type process struct {
	cmd    *exec.Cmd
	done   chan struct{}
	output *policiestest.Output
}

// start runs a program; its output shows if the test fails.
func start(tb testing.TB, env []string, program string, args ...string) *process {
	tb.Helper()
	p := &process{done: make(chan struct{}), output: &policiestest.Output{}}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(tb, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	tb.Cleanup(func() {
		p.stop(tb, syscall.SIGTERM)
		if tb.Failed() {
			tb.Logf("%s %s:\n%s", filepath.Base(program), strings.Join(args, " "), p.output)
		}
	})
	return p
}

// stop sends sig and waits for the end; after 30 s it kills.
func (p *process) stop(tb testing.TB, sig os.Signal) {
	tb.Helper()
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		tb.Errorf("process %d did not end within 30 s of %s", p.cmd.Process.Pid, sig)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// cleanEnv is the environment without what would configure usher.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "USHER_") {
			env = append(env, kv)
		}
	}
	return env
}

// eventually polls until condition holds; it fails the test after limit.
func eventually(tb testing.TB, limit time.Duration, what string, condition func() error) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var err error
	for time.Now().Before(deadline) {
		if err = condition(); err == nil {
			return
		}
		<-ticker.C
	}
	require.NoError(tb, err, "after %s: %s", limit, what)
}

// platform is a running `usher dev` and what its dev.env says.
type platform struct {
	*process
	dir      string
	admin    string
	resident string
	onDemand string
	token    string
	env      map[string]string
	client   *http.Client
}

// startDev runs `usher dev --no-demo` on free ports.
func startDev(tb testing.TB, more ...string) *platform {
	tb.Helper()
	return startDevOn(tb, tb.TempDir(), more...)
}

// startDevOn is startDev on a directory, where an earlier one may have left its state.
func startDevOn(tb testing.TB, dir string, more ...string) *platform {
	tb.Helper()
	// One that was killed left its own.
	require.NoError(tb, os.RemoveAll(filepath.Join(dir, "dev.env")))
	p := &platform{dir: dir, client: &http.Client{
		Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}
	tb.Cleanup(p.client.CloseIdleConnections)
	p.process = start(tb, nil, binary(tb, "usher"), append([]string{"dev", "--dir", p.dir, "--no-demo",
		"--admin-listen", "127.0.0.1:0", "--sidecar-listen", "127.0.0.1:0"}, more...)...)
	p.readEnv(tb)
	return p
}

// readEnv waits for dev.env and reads it.
func (p *platform) readEnv(tb testing.TB) {
	tb.Helper()
	path := filepath.Join(p.dir, "dev.env")
	eventually(tb, 60*time.Second, "usher dev is ready", func() error {
		select {
		case <-p.done:
			tb.Fatalf("usher dev ended:\n%s", p.output)
		default:
		}
		_, err := os.Stat(path)
		return err
	})
	// Read as a shell would.
	out, err := exec.Command("bash", "-c", `set -a; . "$0"; env`, path).Output()
	require.NoError(tb, err)
	p.env = map[string]string{}
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		if name, value, ok := strings.Cut(scanner.Text(), "="); ok && strings.HasPrefix(name, "USHER_") {
			p.env[name] = value
		}
	}
	p.admin, p.resident, p.onDemand = p.env["USHER_ADMIN_URL"], p.env["USHER_SIDECAR_URL"], p.env["USHER_ONDEMAND_SIDECAR_URL"]
	p.token = p.env["USHER_TOKEN"]
	for _, name := range []string{
		"USHER_ADMIN_URL", "USHER_SIDECAR_URL", "USHER_ONDEMAND_SIDECAR_URL", "USHER_TOKEN", "USHER_DATABASE_URL",
		"USHER_REDIS_URL", "USHER_REDIS_KEY_FILE",
	} {
		require.NotEmpty(tb, p.env[name], name)
	}
}

// answer is what a call came back with.
type answer struct {
	status   int
	body     []byte
	header   http.Header
	revision uint64
}

// call makes a request with the service token. A body may be a string (as it is)
// or anything that marshals.
func (p *platform) call(method, url string, body any, header map[string]string) (answer, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, reader)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.revision, _ = strconv.ParseUint(resp.Header.Get("Usher-Revision"), 10, 64)
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// must is call that fails the test unless the status is 2xx.
func (p *platform) must(tb testing.TB, method, url string, body any) answer {
	tb.Helper()
	a, err := p.call(method, url, body, nil)
	require.NoError(tb, err)
	require.Less(tb, a.status, 300, "%s %s: %s", method, url, a.body)
	return a
}

// question is a check as the vectors and the random worlds ask it.
type question struct {
	Subject  string `json:"subject"`
	Action   string `json:"action"`
	Type, ID string
}

// request is q as AuthZEN's evaluation takes it.
func (q question) request(minRevision uint64) map[string]any {
	r := map[string]any{
		"subject":  map[string]string{"type": "account", "id": q.Subject},
		"action":   map[string]string{"name": q.Action},
		"resource": map[string]string{"type": q.Type, "id": q.ID},
	}
	if minRevision > 0 {
		r["context"] = map[string]any{"min_revision": minRevision}
	}
	return r
}

// decision is AuthZEN's answer.
type decision struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason     string   `json:"reason"`
		Level      string   `json:"level"`
		Roles      []string `json:"roles"`
		Policies   []string `json:"policies"`
		Owner      string   `json:"owner"`
		Revision   uint64   `json:"revision"`
		ValidUntil string   `json:"valid_until"`
		Guardrail  []string `json:"guardrail"`
	} `json:"context"`
}

// evaluate asks one check.
func (p *platform) evaluate(base string, q question, minRevision uint64) (decision, error) {
	a, err := p.call(http.MethodPost, base+"/access/v1/evaluation", q.request(minRevision), nil)
	if err != nil {
		return decision{}, err
	}
	if a.status != http.StatusOK {
		return decision{}, fmt.Errorf("evaluation: %d %s", a.status, a.body)
	}
	var d decision
	return d, json.Unmarshal(a.body, &d)
}

// evaluateAll asks a batch.
func (p *platform) evaluateAll(base string, questions []question, minRevision uint64) ([]decision, error) {
	items := make([]map[string]any, len(questions))
	for i, q := range questions {
		items[i] = q.request(0)
	}
	return p.evaluateItems(base, items, minRevision)
}

// evaluateItems is evaluateAll of requests as they are sent.
func (p *platform) evaluateItems(base string, items []map[string]any, minRevision uint64) ([]decision, error) {
	body := map[string]any{"evaluations": items}
	if minRevision > 0 {
		body["context"] = map[string]any{"min_revision": minRevision}
	}
	a, err := p.call(http.MethodPost, base+"/access/v1/evaluations", body, nil)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("evaluations: %d %s", a.status, a.body)
	}
	var all struct {
		Evaluations []decision `json:"evaluations"`
	}
	if err := json.Unmarshal(a.body, &all); err != nil {
		return nil, err
	}
	if len(all.Evaluations) != len(items) {
		return nil, errors.New("the batch's answer has another length than its question")
	}
	return all.Evaluations, nil
}
