package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/cmd/usher/dev"
	"github.com/usher-authz/usher/policies"
)

type guardrailsCommand struct {
	Set    guardrailsSetCommand    `cmd:"" help:"Put a directory of guardrails in force, in place of all there are."`
	Show   guardrailsShowCommand   `cmd:"" help:"Print the guardrails in force."`
	Test   guardrailsTestCommand   `cmd:"" help:"Compile a directory of guardrails and run its tests, without a server. Exit code 0: all pass, 1: not, 2: error."`
	Remove guardrailsRemoveCommand `cmd:"" help:"Take all guardrails out of force."`
}

const pathGuardrails = "/v1/guardrails"

// guardrailsAnswer is what the admin server has in force.
type guardrailsAnswer struct {
	Files map[string]string `json:"files"`
	Tests int               `json:"tests"`
}

type guardrailsSetCommand struct {
	adminAccess `embed:""`
	waiting     `embed:""`

	Dir string `arg:"" help:"Rego in package usher.guardrails, with its tests in files that end in _test.rego."`
}

// Help is shown by --help below the options.
func (*guardrailsSetCommand) Help() string {
	return "The admin server compiles them and runs the tests before they come in force; with what is broken, nothing changes. " +
		"The token needs the scope collaboration."
}

// Run sends the directory.
func (c *guardrailsSetCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	sources, err := guardrails.Read(os.DirFS(c.Dir))
	if err != nil {
		return fmt.Errorf("read the guardrails in %s: %w", c.Dir, err)
	}
	body, err := json.Marshal(map[string]any{"files": sources})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := admin.do(bounded, http.MethodPut, pathGuardrails, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer guardrailsAnswer
	if err := json.UnmarshalRead(resp.Body, &answer); err != nil {
		return fmt.Errorf("%s answered with something else than JSON: %w", admin.base, err)
	}
	revision := resp.Header.Get("Usher-Revision")
	if _, err := fmt.Fprintf(p.Stdout, "in force at revision %s: %s, %s passed\n", revision, files(answer.Files), count(answer.Tests, "test")); err != nil {
		return err
	}
	return c.onAdmin(ctx, admin, revision)
}

// files are the names, in order.
func files(all map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type guardrailsShowCommand struct {
	adminAccess `embed:""`

	Output string `default:"text" enum:"text,json" help:"How they are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*guardrailsShowCommand) Help() string {
	return "It is the Rego that runs: what was set, with the condition in each rule that its annotation stands for. The token needs the scope collaboration."
}

// Run prints them, one file after the other.
func (c *guardrailsShowCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	var answer jsontext.Value
	if err := admin.getJSON(ctx, pathGuardrails, &answer); err != nil {
		return err
	}
	if c.Output == "json" {
		_, err = fmt.Fprintln(p.Stdout, answer)
		return err
	}
	var found guardrailsAnswer
	if err := json.Unmarshal(answer, &found); err != nil {
		return fmt.Errorf("%s answered with something else than guardrails: %w", admin.base, err)
	}
	if len(found.Files) == 0 {
		_, err = fmt.Fprintln(p.Stdout, "no guardrails are in force")
		return err
	}
	var out strings.Builder
	for i, name := range slices.Sorted(maps.Keys(found.Files)) {
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "# %s\n%s\n", name, strings.TrimRight(found.Files[name], "\n"))
	}
	_, err = fmt.Fprint(p.Stdout, out.String())
	return err
}

type guardrailsTestCommand struct {
	Dir    string `arg:"" help:"Rego in package usher.guardrails, with its tests in files that end in _test.rego."`
	Output string `default:"text" enum:"text,json" help:"How the results are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*guardrailsTestCommand) Help() string {
	return "They are compiled with the Rego and the catalogue of this usher, and tested as `usher guardrails set` has the admin server do."
}

// Run prints a line for each test.
func (c *guardrailsTestCommand) Run(ctx context.Context, p *Process) error {
	inForce, err := dev.EmbeddedPolicy()
	if err != nil {
		return err
	}
	sources, err := guardrails.Read(os.DirFS(c.Dir))
	if err != nil {
		return fmt.Errorf("read the guardrails in %s: %w", c.Dir, err)
	}
	_, results, err := guardrails.Build(ctx, inForce, sources)
	var invalid *policies.InvalidError
	if results == nil || err != nil && !errors.As(err, &invalid) {
		if err == nil {
			_, err = fmt.Fprintln(p.Stderr, "usher: there are no tests")
		}
		return err
	}
	failed := 0
	for _, r := range results {
		if !r.Passed && !r.Skipped {
			failed++
		}
	}
	if err := c.print(p, results, failed); err != nil {
		return err
	}
	if failed > 0 {
		return &exitError{Code: 1}
	}
	return err
}

func (c *guardrailsTestCommand) print(p *Process, results []guardrails.TestResult, failed int) error {
	if c.Output == "json" {
		return json.MarshalWrite(p.Stdout, results)
	}
	var out strings.Builder
	for _, r := range results {
		what := "pass"
		switch {
		case r.Skipped:
			what = "skip"
		case !r.Passed:
			what = "FAIL"
		}
		fmt.Fprintf(&out, "%s  %s:%d  %s", what, r.File, r.Line, r.Name)
		if r.Reason != "" {
			fmt.Fprintf(&out, ": %s", r.Reason)
		}
		out.WriteByte('\n')
		if r.Output != "" && what == "FAIL" {
			out.WriteString(r.Output)
		}
	}
	fmt.Fprintf(&out, "%s, %d failed\n", count(len(results), "test"), failed)
	_, err := fmt.Fprint(p.Stdout, out.String())
	return err
}

type guardrailsRemoveCommand struct {
	adminAccess `embed:""`
	waiting     `embed:""`
}

// Help is shown by --help below the options.
func (*guardrailsRemoveCommand) Help() string {
	return "The change log keeps what they were. The token needs the scope collaboration."
}

// Run removes them.
func (c *guardrailsRemoveCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := admin.do(bounded, http.MethodDelete, pathGuardrails, "", nil)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	revision := resp.Header.Get("Usher-Revision")
	if _, err := fmt.Fprintf(p.Stdout, "no guardrails are in force since revision %s\n", revision); err != nil {
		return err
	}
	return c.onAdmin(ctx, admin, revision)
}
