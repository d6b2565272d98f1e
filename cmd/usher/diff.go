package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
)

type diffCommand struct {
	adminAccess `embed:""`

	From     string `arg:"" help:"The earlier revision."`
	To       string `arg:"" help:"The later revision."`
	Account  string `help:"Only what belongs to this account." placeholder:"ID"`
	Resource string `help:"Only this resource." placeholder:"TYPE:ID"`
	Output   string `default:"table" enum:"table,json" help:"How the differences are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*diffCommand) Help() string {
	return "Who gained and lost which actions on which resources. The token needs the scope audit.\n\nExample: usher diff 1200 1240 --account northwind"
}

// differences is the answer.
type differences struct {
	Items []struct {
		Owner    string   `json:"owner"`
		Member   string   `json:"member"`
		Account  string   `json:"account"`
		Resource named    `json:"resource"`
		Gained   []string `json:"gained"`
		Lost     []string `json:"lost"`
	} `json:"items"`
	Truncated bool `json:"truncated"`
}

// Run asks and prints.
func (c *diffCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	query := url.Values{"from": {c.From}, "to": {c.To}}
	if c.Account != "" {
		query.Set("account", c.Account)
	}
	if c.Resource != "" {
		resource, err := parseResource(c.Resource)
		if err != nil {
			return err
		}
		query.Set("type", resource.Type)
		query.Set("id", resource.ID)
	}
	resp, err := admin.do(ctx, http.MethodGet, "/v1/audit/diff?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var found differences
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("%s answered with something else than JSON: %w", admin.base, err)
	}
	if found.Truncated {
		_, _ = fmt.Fprintln(p.Stderr, "usher: there is more than this: name an account, or less of the log")
	}
	if c.Output == "json" {
		_, err = fmt.Fprintln(p.Stdout, strings.TrimSpace(string(data)))
		return err
	}
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "OWNER\tMEMBER\tRESOURCE\t\tACTION") // a tabwriter tells at Flush
	for _, d := range found.Items {
		member := d.Account
		if member == "" {
			member = d.Member
		}
		for _, side := range []struct {
			sign    string
			actions []string
		}{{"+", d.Gained}, {"-", d.Lost}} {
			for _, action := range side.actions {
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d.Owner, member, d.Resource, side.sign, action)
			}
		}
	}
	return t.Flush()
}
