package main

import (
	"context"
	"fmt"

	"github.com/usher-authz/usher/admin/store"
)

type epochCommand struct {
	New epochNewCommand `cmd:"" help:"Begin a new epoch by hand, after a restore that lost commits and that the database does not show."`
}

type epochNewCommand struct {
	database `embed:""`
	waiting  `embed:""`
}

// Help is shown by --help below the options.
func (*epochNewCommand) Help() string {
	return "Revisions of the lost commits are never used again; every sidecar takes a snapshot and drops what it had cached. " +
		"The admin server does this by itself where the database has another timeline or identity than before."
}

// Run writes the first revision of the epoch.
func (c *epochNewCommand) Run(ctx context.Context, p *Process) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	revision, err := s.NewEpoch(ctx, store.Call{Actor: local})
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(p.Stdout, "epoch %d, revision %d\n", revision.Epoch(), revision); err != nil {
		return err
	}
	return c.onDatabase(ctx, s, revision)
}
