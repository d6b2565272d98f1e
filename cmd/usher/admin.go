package main

import (
	"context"
	"time"

	"github.com/usher-authz/usher/admin"
)

type adminCommand struct {
	database `embed:""`
	logging  `embed:""`

	Listen          string        `default:"127.0.0.1:8080" help:"Where to listen, HOST:PORT; port 0 picks a free one."`
	InsecureListen  bool          `help:"Listen without TLS on an address that others can reach."`
	MinRevisionWait time.Duration `default:"2s" help:"How long a request waits for the revision that it demands."`
	CacheLimit      int           `default:"1000000" help:"How many (subject, resource) pairs are cached."`
}

// Help is shown by --help below the options.
func (adminCommand) Help() string {
	return "Any number of them may run on one database. Run usher migrate first."
}

// Run serves until ctx ends.
func (c *adminCommand) Run(ctx context.Context, p *Process) error {
	if err := c.check(); err != nil {
		return err
	}
	log, err := c.logger(p.Stderr)
	if err != nil {
		return err
	}
	server, err := admin.New(admin.Options{
		DatabaseURL: c.DatabaseURL, Listen: c.Listen, Logger: log,
	})
	if err != nil {
		return err
	}
	return serve(ctx, server, "admin", c.Listen, log)
}
