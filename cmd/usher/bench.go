package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/cmd/usher/bench"
)

type benchCommand struct {
	adminAccess `embed:""`

	Owners       int           `default:"1000" help:"How many accounts to generate and import, each with 20 environments, 10 members and 50 grants."`
	Seed         uint64        `default:"1"    help:"What they are drawn from: the same seed makes the same accounts."`
	Connections  int           `default:"8"    help:"How many connections ask at the same time."`
	Duration     time.Duration `default:"10s"  help:"How long each server is asked."`
	Sidecars     int           `default:"2"    help:"How many sidecars to start."`
	Changes      int           `default:"200"  help:"How many grants are given and taken back, ten changes a second, to see how soon that counts."`
	Checks       int           `default:"0"    help:"How many checks are asked beside further changes, at least, e.g. 10,000,000; else as many as the duration takes."`
	RedisURL     string        `help:"The Redis of sidecars on demand; without it a check in Redis is not measured." placeholder:"URL"`
	RedisKeyFile string        `help:"The file with the keys that authenticate what is kept in Redis." placeholder:"FILE"`
	OPA          string        `help:"A stock OPA to compare with, on the same bundle." name:"opa" placeholder:"PROGRAM"`
	Output       string        `default:"table" enum:"table,json" help:"How the figures are printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*benchCommand) Help() string {
	return "Imports generated accounts, starts sidecars and the floors, and compares every answer: a wrong one ends with exit code 1. " +
		"The accounts stay, for the next run. The token needs the scopes resources, collaboration, checks and bundles; `usher dev` has one."
}

// Run measures and prints the report.
func (c *benchCommand) Run(ctx context.Context, p *Process) error {
	if _, err := newClient("admin-url", c.AdminURL, c.Token); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var redisAt *redis.UniversalOptions
	var redisKeys [][]byte
	if c.RedisURL != "" {
		if redisAt, redisKeys, err = readRedis(c.RedisURL, c.RedisKeyFile); err != nil {
			return err
		}
	}
	report, err := bench.Run(ctx, bench.Options{
		AdminURL: c.AdminURL, Token: c.Token, Program: program, OPA: c.OPA, Owners: c.Owners, Seed: c.Seed,
		Connections: c.Connections, Duration: c.Duration, Sidecars: c.Sidecars, Changes: c.Changes, Checks: c.Checks,
		Redis: redisAt, RedisKeys: redisKeys, Progress: p.Stderr,
	})
	if report == nil {
		return err
	}
	if c.Output == "json" {
		err = errors.Join(err, json.MarshalWrite(p.Stdout, report, jsontext.WithIndent("  ")))
	} else {
		err = errors.Join(err, report.WriteTable(p.Stdout))
	}
	return err
}

// benchFloorCommand is what `usher bench` starts beside the sidecars.
type benchFloorCommand struct {
	Listen     string `default:"127.0.0.1:0" help:"Where to listen, HOST:PORT."`
	Token      string `help:"The token to ask for."                            placeholder:"TOKEN"`
	CheckBytes int    `default:"200"         help:"The length of an answer to a check."`
	BatchBytes int    `default:"20000"       help:"The length of an answer to a batch."`
}

// Run serves until ctx ends.
func (c *benchFloorCommand) Run(ctx context.Context) error {
	return bench.ServeFloor(ctx, c.Listen, c.Token, c.CheckBytes, c.BatchBytes)
}
