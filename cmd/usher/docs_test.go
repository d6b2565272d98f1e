package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies/policiestest"
)

// example is one fenced block of a page: ```sh is run, and ```output right after
// it is what it prints, where `…` stands for anything within a line, and a line of
// it alone for any lines.
type example struct {
	line   int
	script string
	output string
	// why is the reason for which the block is not run as it stands, from a comment
	// before it: <!-- not run: why -->.
	why string
}

// notRun are the reasons that a block may have for not being run.
var notRun = map[string]bool{
	"the test runs usher dev itself, on free ports": true,
	"this is how the test is run":                   true,
	"needs a Docker engine":                         true,
}

// pages are README.md and everything in docs.
func pages(t *testing.T) []string {
	t.Helper()
	root := filepath.Join("..", "..")
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return append(found, filepath.Join(root, "README.md"))
}

// examples reads a page's.
func examples(t *testing.T, path string) []example {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var found []example
	fence, why := "", ""
	var body []string
	start := 0
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case fence == "" && strings.HasPrefix(line, "<!-- not run: "):
			why = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- not run: "), " -->")
			require.True(t, notRun[why], "%s:%d: %q is no reason not to run an example", path, i+1, why)
		case fence == "" && strings.HasPrefix(line, "```"):
			fence, body, start = strings.TrimPrefix(line, "```"), nil, i+1
			require.NotEmpty(t, fence, "%s:%d: say what the block is: sh, output, json, …", path, i+1)
		case fence != "" && line == "```":
			text := strings.Join(body, "\n")
			switch fence {
			case "sh":
				found = append(found, example{line: start, script: text, why: why})
			case "output":
				require.NotEmpty(t, found, "%s:%d: output of nothing", path, start)
				found[len(found)-1].output = text
			case "bash", "shell", "console":
				t.Fatalf("%s:%d: call it sh, so that it is run", path, start)
			}
			fence, why = "", ""
		case fence != "":
			body = append(body, line)
		}
	}
	require.Empty(t, fence, "%s: a block is not closed", path)
	return found
}

// between tells the blocks of a page apart in the output of its one shell.
const between = "----- block %d -----"

// prelude lets the commands of the README run as they stand: `go run ./cmd/usher`
// is this very binary.
const prelude = `set -euo pipefail
go() { if [ "${1-} ${2-}" = "run ./cmd/usher" ]; then shift 2; usher "$@"; else command go "$@"; fi; }
opa() { "$OPA" "$@"; }
set -a; . .usher/dev.env; set +a
`

// stockOPA is the path of the opa that go.mod pins.
func stockOPA(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "opa").CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

const pageTimeout = 5 * time.Minute

func TestDocs(t *testing.T) { //nolint:tparallel // its pages share one platform and run one after the other
	t.Parallel()
	home, opa := shared.home(t), stockOPA(t)
	for _, path := range pages(t) {
		// One page after the other: they share the platform, and one that exports an
		// account and imports it again takes back what another changed meanwhile.
		t.Run(filepath.Base(path), func(t *testing.T) {
			all := examples(t, path)
			var script strings.Builder
			script.WriteString(prelude)
			for i, e := range all {
				if e.why == "" {
					fmt.Fprintf(&script, "echo '"+between+"'\n%s\n", i, e.script)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), pageTimeout)
			defer cancel()
			// Pages share the platform, and each has its own files: a directory of its own
			// with the same .usher.
			dir := t.TempDir()
			require.NoError(t, os.Symlink(filepath.Join(home, ".usher"), filepath.Join(dir, ".usher")))
			bash := exec.CommandContext(ctx, "bash", "-c", script.String())
			bash.Dir, bash.Env = dir, append(cleanEnv(), "OPA="+opa)
			stdout, stderr := &policiestest.Output{}, &policiestest.Output{}
			bash.Stdout, bash.Stderr = stdout, stderr
			err := bash.Run()
			for i, e := range all {
				if e.why != "" {
					continue
				}
				_, rest, ran := strings.Cut(stdout.String(), fmt.Sprintf(between, i)+"\n")
				require.True(t, ran, "%s: the examples before line %d failed: %v\n%s\n%s", path, e.line, err, stdout, stderr)
				got, _, _ := strings.Cut(rest, "----- block ")
				if e.output != "" {
					require.Regexp(t, pattern(e.output), strings.TrimSpace(got), "%s:%d\n%s", path, e.line, stderr)
				}
			}
			require.NoError(t, err, "%s: the last example: %s\n%s", path, stdout, stderr)
		})
	}
}

// pattern is the expected output as a regular expression.
func pattern(output string) *regexp.Regexp {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) == "…" {
			lines[i] = `(?s:.*)`
			continue
		}
		lines[i] = strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " ")), "…", `.*`)
	}
	return regexp.MustCompile(`\A` + strings.Join(lines, `\s*\n`) + `\z`)
}

func TestDocsLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, path := range pages(t) {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(path), m[1]))
			require.NoError(t, err, "%s links to %s", path, m[1])
		}
	}
}
