package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/rest"
)

// golden compares got with the file, or writes it when USHER_UPDATE is set (make
// generate).
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("USHER_UPDATE") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "make generate writes it")
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Fatalf("%s is not current (make generate, then read it): -file +code\n%s", path, diff)
	}
}

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// leaves are all commands.
func leaves(t *testing.T) []*kong.Node {
	t.Helper()
	parser, err := newParser(&commandLine{}, Process{Stdout: io.Discard, Stderr: io.Discard, LookupEnv: noEnv}, func(int) {})
	require.NoError(t, err)
	return parser.Model.Leaves(true)
}

func TestGoldenHelp(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	commands := []string{""}
	for _, node := range leaves(t) {
		commands = append(commands, strings.Join(strings.Fields(node.FullPath())[1:], " "))
	}
	for _, command := range commands {
		name := strings.ReplaceAll(strings.TrimSpace("usher "+command), " ", "-")
		t.Run(name, func(t *testing.T) {
			var out, stderr bytes.Buffer
			code := Run(t.Context(), append(strings.Fields(command), "--help"), Process{
				Stdout: &out, Stderr: &stderr,
				// What is set shows in no help, least of all a secret.
				LookupEnv: func(string) (string, bool) { return "hush-hush", true },
			})
			require.Zero(t, code, stderr.String())
			require.Empty(t, stderr.String())
			require.NotContains(t, out.String(), "hush-hush")
			golden(t, filepath.Join("testdata", "help", name+".txt"), out.Bytes())
		})
	}
}

const referenceHead = `# Configuration

Every option is a flag, a variable of the environment and a key in a YAML file, under names that follow from each other:
` + "`--database-url`, `USHER_DATABASE_URL`, `database_url`" + `. A flag beats the environment, the environment beats the file. The file is given by
` + "`--config FILE` or `USHER_CONFIG`" + `; one file may serve all commands: a command ignores the keys and variables of others, and a key that no command
knows is an error. An empty variable counts as one that is not set. Lists are comma-separated in flags and variables, and lists in the file.

    # usher.yaml
    listen: 127.0.0.1:9000
    log_level: debug

This page is made from the declarations in ` + "`cmd/usher`" + ` by ` + "`make generate`" + `; a test compares the two.
`

func TestReferencePage(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	page.WriteString(referenceHead)
	for _, node := range leaves(t) {
		rows := ""
		for _, flag := range node.Flags {
			if flag.Name == "help" {
				continue
			}
			byDefault := ""
			if flag.HasDefault {
				byDefault = "`" + flag.Default + "`"
			}
			rows += fmt.Sprintf("| `--%s` | `%s` | `%s` | %s | %s |\n", flag.Name, flag.Envs[0], settingsKey(flag.Name), byDefault, flag.Help)
		}
		fmt.Fprintf(&page, "\n## %s\n\n%s\n", node.FullPath(), node.Help)
		if rows == "" {
			page.WriteString("\nNo options.\n")
			continue
		}
		page.WriteString("\n| flag | variable | key | default | |\n| --- | --- | --- | --- | --- |\n" + rows)
	}
	golden(t, filepath.Join("..", "..", "docs", "configuration.md"), page.Bytes())
}

const errorsHead = `# Errors

An error of the admin server is an ` + "`application/problem+json`" + ` document (RFC 9457): ` + "`type`" + ` names the kind and is stable, ` + "`title`" + ` says it in words,
` + "`status`" + ` repeats the HTTP status, ` + "`detail`" + ` tells what happened this time, and ` + "`errors`" + ` lists every field that is wrong, all at once. Nothing in it tells the inner
cause of a fault: a 500 has a ` + "`trace_id`" + `, which finds it in the server's log. Decide by ` + "`type`" + `, not by texts.

`

const errorsTail = `
The check API answers 200 to every well-formed check, denials included; its errors have the same form.

The commands print an error on one line, with what to do, and end with 1; ` + "`usher check`" + ` ends with 2, since 1 is a denial.

This page is made from the table in ` + "`admin/rest`" + ` by ` + "`make generate`" + `; a test compares the two.
`

func TestReferenceErrors(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	page.WriteString(errorsHead)
	page.WriteString(rest.ProblemTable())
	page.WriteString(errorsTail)
	golden(t, filepath.Join("..", "..", "docs", "errors.md"), page.Bytes())
}
