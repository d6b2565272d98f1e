package main

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

type whoCanCommand struct {
	SidecarURL string `help:"The sidecar to ask, e.g. http://127.0.0.1:8181." placeholder:"URL"`
	Token      string `help:"A service token." placeholder:"TOKEN"`

	Action   string `arg:"" help:"The action, e.g. environment.control.StartEnv." predictor:"action"`
	Resource string `arg:"" help:"TYPE:ID; types: environment, group, environments, groups, account." name:"type:id"`
	Output   string `default:"table" enum:"table,json" help:"How the accounts are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*whoCanCommand) Help() string {
	return "The owner is among them. All are of one revision, however many there are.\n\n" +
		"Example: usher who-can environment.control.StartEnv environment:shop-web-eu"
}

// accountsFound is what --output json prints.
type accountsFound struct {
	Action   string            `json:"action"`
	Resource named             `json:"resource"`
	Revision policies.Revision `json:"revision"`
	Accounts []string          `json:"accounts"`
}

// Run asks and prints.
func (c *whoCanCommand) Run(ctx context.Context, p *Process) error {
	resource, err := parseResource(c.Resource)
	if err != nil {
		return err
	}
	sidecar, err := newClient("sidecar-url", c.SidecarURL, c.Token)
	if err != nil {
		return err
	}
	bar := newCount(p.Stderr, "accounts")
	found, err := sidecar.search(ctx, pathSubjects, searchRequest{
		Subject: &named{Type: "account"}, Action: &evaluationAction{c.Action}, Resource: &resource,
	}, bar)
	bar.done()
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(p, accountsFound{c.Action, resource, found.Revision, orEmpty(found.IDs)})
	}
	if len(found.IDs) == 0 { // else the owner was found
		_, err = fmt.Fprintf(p.Stderr, "usher: nobody: usher does not know %s, no policy that counts there names %s, or guardrails deny it without a context\n",
			resource, c.Action)
		return err
	}
	return printColumn(p, "ACCOUNT", found.IDs, found.Revision)
}

// printColumn prints a table of one column, and at which revision it was so.
func printColumn(p *Process, head string, rows []string, revision policies.Revision) error {
	for _, row := range append([]string{head}, rows...) {
		if _, err := fmt.Fprintln(p.Stdout, row); err != nil {
			return fmt.Errorf("print what was found: %w", err)
		}
	}
	_, err := fmt.Fprintf(p.Stderr, "%d, revision %d\n", len(rows), revision)
	return err
}

// printJSON prints v on one line.
func printJSON(p *Process, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(p.Stdout, "%s\n", data)
	}
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}
