package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// usher runs a command with the variables of dev.env, and gives its exit code and all
// that it printed.
func (p *platform) usher(tb testing.TB, args ...string) (int, string) {
	tb.Helper()
	cmd := exec.Command(binary(tb, "usher"), args...)
	cmd.Env = cleanEnv()
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		var ended *exec.ExitError
		require.ErrorAs(tb, err, &ended)
	}
	return cmd.ProcessState.ExitCode(), string(output)
}

// rule denies what the owner does without a ticket.
func rule(reason string) string {
	return "package usher.guardrails\n\n# METADATA\n# custom:\n#   actions: [environment.control.DeleteEnv]\n" +
		fmt.Sprintf("deny contains %q if not input.context.ticket\n", reason)
}

// guardrailDir is a directory with these files.
func guardrailDir(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range files {
		require.NoError(tb, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// TestGuardrails puts guardrails in force by the commands, and asks every door, through
// all that happens to a platform.
func TestGuardrails(t *testing.T) {
	const removeEnv = "environment.control.DeleteEnv"
	tests := "package usher.guardrails_test\n\ntest_denies if count(data.usher.guardrails.deny) == 1 with input as {\"action\": {\"name\": \"" + removeEnv + "\"}}\n"
	first := guardrailDir(t, map[string]string{"tickets.rego": rule("no ticket"), "tickets_test.rego": tests})
	p := startDev(t, "--guardrails", first)
	imported := p.must(t, http.MethodPost, p.admin+"/v1/import", []any{document("own", "mia", 1)})
	exported := p.must(t, http.MethodGet, p.admin+"/v1/accounts/own/export", nil)
	revision := imported.revision

	// ask is what all doors answer: "" is an allow, else the texts of the guardrails.
	ask := func(revision uint64) string {
		t.Helper()
		said := map[string]bool{}
		for _, door := range []string{p.admin, p.resident, p.onDemand} {
			q := question{"own", removeEnv, "environment", "own-env-0"}
			a, err := p.call(http.MethodPost, door+"/access/v1/evaluation", q.request(revision), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, a.status, "%s: %s", door, a.body)
			var d struct {
				Decision bool `json:"decision"`
				Context  struct {
					Reason    string   `json:"reason"`
					Guardrail []string `json:"guardrail"`
				} `json:"context"`
			}
			require.NoError(t, json.Unmarshal(a.body, &d))
			require.Equal(t, map[bool]string{true: "owner", false: "guardrail"}[d.Decision], d.Context.Reason)
			said[strings.Join(d.Context.Guardrail, ",")] = true
		}
		require.Len(t, said, 1, "the doors agree")
		for text := range said {
			return text
		}
		return ""
	}
	// head is a revision of now.
	head := func() uint64 {
		t.Helper()
		return p.must(t, http.MethodPut, p.admin+"/v1/accounts/own", map[string]string{"email": "own@example.com"}).revision
	}
	require.Equal(t, "no ticket", ask(revision))
	code, output := p.usher(t, "check", "--context", `{"ticket": "OPS-1"}`, "own", removeEnv, "environment:own-env-0")
	require.Zero(t, code, output)

	// What is broken is refused with its place, and the last good ones stay.
	for text, broken := range map[string]map[string]string{
		"tickets.rego:3 ":      {"tickets.rego": "package usher.guardrails\n\ndeny contains"},
		"tickets_test.rego:3 ": {"tickets.rego": rule("x"), "tickets_test.rego": strings.Replace(tests, "== 1", "== 2", 1)},
		"tickets.rego:6 http.send reaches out of the process": {"tickets.rego": strings.Replace(rule("x"), "not input.context.ticket", "http.send({})", 1)},
	} {
		dir := guardrailDir(t, broken)
		code, output := p.usher(t, "guardrails", "set", dir)
		require.Equal(t, 1, code, output)
		require.Contains(t, output, text)
		code, output = p.usher(t, "guardrails", "test", dir)
		require.Contains(t, []int{1, 2}, code, output)
	}
	code, output = p.usher(t, "guardrails", "set", t.TempDir())
	require.Equal(t, 1, code)
	require.Contains(t, output, "no files that end in .rego")
	require.Equal(t, "no ticket", ask(head()))

	// Two at once: the last one is in force, whole, everywhere.
	var wait sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		dir := guardrailDir(t, map[string]string{name + ".rego": rule(name)})
		wait.Go(func() {
			if code, output := p.usher(t, "guardrails", "set", dir, "--wait"); code != 0 {
				t.Errorf("exit code %d: %s", code, output)
			}
		})
	}
	wait.Wait()
	winner := ask(head())
	require.Contains(t, []string{"one", "two"}, winner)
	code, output = p.usher(t, "guardrails", "show")
	require.Zero(t, code, output)
	require.Contains(t, output, "# "+winner+".rego\n")
	require.Contains(t, output, `input.action.name in {"`+removeEnv+`"}`)
	require.Equal(t, 1, strings.Count(output, "package usher.guardrails"))

	// A stock OPA on the bundle says the same; documents and the log are as they were.
	bundle := filepath.Join(t.TempDir(), "usher.tar.gz")
	code, output = p.usher(t, "bundle", "build", "--output", bundle)
	require.Zero(t, code, output)
	eval := exec.Command(binary(t, "opa"), "eval", "--bundle", bundle, "--format", "raw", "--stdin-input", "data.usher.authz.decision.context.guardrail")
	input, err := json.Marshal(question{"own", removeEnv, "environment", "own-env-0"}.request(0))
	require.NoError(t, err)
	eval.Stdin = bytes.NewReader(input)
	answer, err := eval.CombinedOutput()
	require.NoError(t, err, string(answer))
	require.JSONEq(t, `["`+winner+`"]`, string(answer))
	require.Equal(t, exported.body, p.must(t, http.MethodGet, p.admin+"/v1/accounts/own/export", nil).body)
	p.must(t, http.MethodPost, p.admin+"/v1/import", exported.body)
	code, output = p.usher(t, "migrate")
	require.Zero(t, code, output)
	require.Contains(t, output, "guardrails in force, kept: 1 files\nup to date: nothing to do")
	code, output = p.usher(t, "audit", "verify", "--state")
	require.Zero(t, code, output)
	code, output = p.usher(t, "epoch", "new")
	require.Zero(t, code, output)
	require.Equal(t, winner, ask(head()), "in the next epoch")

	// All is killed, and comes back with what was in force.
	p.stop(t, syscall.SIGKILL)
	p = startDevOn(t, p.dir)
	require.Equal(t, winner, ask(head()))

	began := time.Now()
	code, output = p.usher(t, "guardrails", "remove", "--wait")
	require.Zero(t, code, output)
	t.Logf("removed at each sidecar after %s", time.Since(began))
	require.Empty(t, ask(0))
	code, output = p.usher(t, "guardrails", "show")
	require.Zero(t, code)
	require.Equal(t, "no guardrails are in force\n", output)
	code, output = p.usher(t, "audit", "verify", "--state")
	require.Zero(t, code, output)
}

// TestBrokenGuardrailsStopTheStart: usher dev says where the fault is before it starts
// anything.
func TestBrokenGuardrailsStopTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	cmd := exec.Command(binary(t, "usher"), "dev", "--dir", dir, "--guardrails", guardrailDir(t, map[string]string{"x.rego": "package x"}))
	cmd.Env = cleanEnv()
	output, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "x.rego:1 is of package x")
	require.NoDirExists(t, dir)
}
