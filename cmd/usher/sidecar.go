package main

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/authz/sidecar"
)

type sidecarCommand struct {
	logging `embed:""`

	Listen          string        `default:"127.0.0.1:8181" help:"Where to listen, HOST:PORT; port 0 picks a free one."`
	InsecureListen  bool          `help:"Listen without TLS on an address that others can reach."`
	AdminURL        string        `help:"The admin server that feeds it, e.g. http://127.0.0.1:8080." placeholder:"URL"`
	Token           string        `help:"A service token with the scope bundles." placeholder:"TOKEN"`
	Mode            string        `default:"resident" enum:"resident,on-demand" help:"resident holds every account in memory; on-demand takes what it needs from Redis and the admin."`
	RedisURL        string        `help:"Redis, in the mode on-demand, e.g. redis://:PASSWORD@127.0.0.1:6379/0." placeholder:"URL"`
	RedisKeyFile    string        `help:"The file with the keys that authenticate what is kept in Redis." placeholder:"FILE"`
	Bundle          string        `help:"Answer from an OPA bundle alone, a file or a URL, without an admin server; --admin-url, --mode and Redis are not looked at then." placeholder:"FILE|URL"`
	MinRevisionWait time.Duration `default:"2s" help:"How long a check waits for the revision that it demands."`
	CacheLimit      int           `default:"1000000" help:"How many (subject, resource) pairs are cached."`
}

// Run serves until ctx ends.
func (c *sidecarCommand) Run(ctx context.Context, p *Process) error {
	if err := c.validate(); err != nil {
		return err
	}
	log, err := c.logger(p.Stderr)
	if err != nil {
		return err
	}
	server, err := sidecar.New(sidecar.Options{
		Listen: c.Listen, AdminURL: c.AdminURL, Token: c.Token, Mode: sidecar.Mode(c.Mode),
		RedisURL: c.RedisURL, RedisKeyFile: c.RedisKeyFile, Bundle: c.Bundle, Logger: log,
	})
	if err != nil {
		return err
	}
	return serve(ctx, server, "sidecar", c.Listen, log)
}

// validate reports every option that is missing. With a bundle none is: dev.env may
// be loaded.
func (c *sidecarCommand) validate() error {
	var errs []error
	if c.Bundle != "" {
		return nil
	}
	if c.AdminURL == "" {
		errs = append(errs, missing("admin-url", "or --bundle, to answer from an OPA bundle alone"))
	}
	if c.Token == "" {
		errs = append(errs, missing("token", "`usher token create --scope bundles` makes one"))
	}
	if c.Mode == string(sidecar.ModeOnDemand) {
		if c.RedisURL == "" {
			errs = append(errs, missing("redis-url", "the mode on-demand keeps its cache there"))
		}
		if c.RedisKeyFile == "" {
			errs = append(errs, missing("redis-key-file", "the mode on-demand authenticates with it what it keeps in Redis"))
		}
	}
	return errors.Join(errs...)
}
