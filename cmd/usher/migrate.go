package main

import (
	"context"
	"fmt"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/cmd/usher/dev"
)

type database struct {
	DatabaseURL string `help:"PostgreSQL 15 or later, e.g. postgres://usher_admin:PASSWORD@db/usher." placeholder:"URL"`
}

func (d database) check() error {
	if d.DatabaseURL == "" {
		return missing("database-url", "e.g. postgres://usher_admin:PASSWORD@127.0.0.1:5432/usher")
	}
	return nil
}

type migrateCommand struct {
	database `embed:""`
	waiting  `embed:""`

	GrantTo string `help:"The role that usher admin connects as: it gets the rights that it needs, and no more." placeholder:"ROLE"`
}

// Help is shown by --help below the options.
func (*migrateCommand) Help() string {
	return "Connect as the role that the schema belongs to. Running it again changes nothing. " +
		"Run the new binary's migrate before its admin when you upgrade."
}

// Run migrates, with a line for each step.
func (c *migrateCommand) Run(ctx context.Context, p *Process) error {
	if err := c.check(); err != nil {
		return err
	}
	inForce, err := dev.EmbeddedPolicy()
	if err != nil {
		return err
	}
	report, err := store.Migrate(ctx, c.DatabaseURL, inForce, p.Stdout, store.MigrateOptions{GrantTo: c.GrantTo})
	if err != nil {
		return err
	}
	outcome := "migrated"
	if report.From == report.To && !report.PolicyChanged {
		outcome = "up to date: nothing to do"
	}
	if _, err = fmt.Fprintln(p.Stdout, outcome); err != nil || !c.Wait {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return c.onDatabase(ctx, s, report.Revision)
}
