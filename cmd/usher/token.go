package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

type tokenCommand struct {
	Create tokenCreateCommand `cmd:"" help:"Make a service token; its secret is shown once."`
	List   tokenListCommand   `cmd:"" help:"List the service tokens."`
	Revoke tokenRevokeCommand `cmd:"" help:"End a service token at once, everywhere."`
}

// local is how the change log names these commands.
var local = store.Actor{Local: true}

type tokenCreateCommand struct {
	database `embed:""`
	waiting  `embed:""`

	Name    string   `help:"What the token is for; the audit shows it."                                      placeholder:"NAME"`
	Scope   []string `help:"What it may be used for, several by commas or by repeating: resources, collaboration, checks, bundles, decisions, audit, act-as." placeholder:"SCOPE"`
	Expires string   `help:"When it ends: a duration (720h) or a time (2027-01-31T00:00:00Z). Never, if empty." placeholder:"WHEN"`
}

// Run prints the secret alone on the standard output, the rest beside.
func (c *tokenCreateCommand) Run(ctx context.Context, p *Process) error {
	scopes, err := c.scopes()
	if err != nil {
		return err
	}
	if c.Name == "" {
		return missing("name", "what the token is for")
	}
	expires, err := c.expires(time.Now())
	if err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	result, secret, err := s.CreateToken(ctx, store.Call{Actor: local}, c.Name, scopes, expires)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(p.Stderr, "token %s, revision %d; the secret is shown only now:\n", result.Value.ID, result.Revision); err != nil {
		return err
	}
	if _, err = fmt.Fprintln(p.Stdout, secret); err != nil {
		return err
	}
	return c.onDatabase(ctx, s, result.Revision)
}

func (c *tokenCreateCommand) scopes() ([]policies.Scope, error) {
	var scopes []policies.Scope
	for _, name := range c.Scope {
		scope := policies.Scope(strings.TrimSpace(name))
		if !slices.Contains(policies.Scopes, scope) {
			return nil, fmt.Errorf("--scope %q is none of %s", name, joinScopes(policies.Scopes))
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	if len(scopes) == 0 {
		return nil, missing("scope", "one or more of "+joinScopes(policies.Scopes))
	}
	return scopes, nil
}

func (c *tokenCreateCommand) expires(now time.Time) (*time.Time, error) {
	if c.Expires == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, c.Expires)
	if d, durationErr := time.ParseDuration(c.Expires); durationErr == nil {
		at, err = now.Add(d), nil
	}
	if err != nil {
		return nil, fmt.Errorf("--expires %q is neither a duration like 720h nor a time like 2027-01-31T00:00:00Z", c.Expires)
	}
	if !at.After(now) {
		return nil, errors.New("--expires is in the past")
	}
	return &at, nil
}

func joinScopes(scopes []policies.Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// open opens the store for one command.
func (d database) open(ctx context.Context) (*store.Store, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{URL: d.DatabaseURL})
}

type tokenListCommand struct {
	database `embed:""`
}

// Run prints a table; secrets are not known to anybody.
func (c *tokenListCommand) Run(ctx context.Context, p *Process) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tNAME\tSCOPES\tEXPIRES\tCREATED\tLAST USED") // a tabwriter tells at Flush
	page := store.Page{Limit: store.MaxPage}
	for {
		list, err := s.ListTokens(ctx, page)
		if err != nil {
			return err
		}
		for _, item := range list.Items {
			token := item.Value
			expires := "never"
			if token.ExpiresAt != nil {
				expires = token.ExpiresAt.UTC().Format(time.RFC3339)
			}
			used := "never"
			if token.LastUsedAt != nil {
				used = token.LastUsedAt.UTC().Format(time.RFC3339)
			}
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", token.ID, token.Name, joinScopes(token.Scopes), expires,
				token.CreatedAt.UTC().Format(time.RFC3339), used)
		}
		if page.Cursor = list.NextCursor; page.Cursor == "" {
			return t.Flush()
		}
	}
}

type tokenRevokeCommand struct {
	database `embed:""`
	waiting  `embed:""`

	ID string `arg:"" help:"The token's id, as token list shows it."`
}

// Run revokes.
func (c *tokenRevokeCommand) Run(ctx context.Context, p *Process) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	result, err := s.RevokeToken(ctx, store.Call{Actor: local}, c.ID)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(p.Stdout, "revoked, revision %d\n", result.Revision); err != nil {
		return err
	}
	return c.onDatabase(ctx, s, result.Revision)
}
