package main

import (
	"context"
	"os"

	"github.com/usher-authz/usher/cmd/usher/dev"
)

type devCommand struct {
	Dir           string `default:".usher"         help:"Where all state is kept; made if it is not there."`
	AdminListen   string `default:"127.0.0.1:8080" help:"Where the admin server listens, on loopback; port 0 picks a free one."`
	SidecarListen string `default:"127.0.0.1:8181" help:"Where the resident sidecar listens; the on-demand one takes the next port or a free one."`
	SMTPURL       string `name:"smtp-url" placeholder:"URL" help:"Send mails by this server; without it they are written to DIR/mail."`
	Guardrails    string `placeholder:"DIR" help:"Put this directory of guardrails in force at the start; without it, those of the last run stay."`
	NoDemo        bool   `help:"Do not import the demo company."`
}

// Help is shown by --help below the options.
func (*devCommand) Help() string {
	return "Everything runs in one process tree on loopback: PostgreSQL, Redis, the admin server and a sidecar of each mode. " +
		"DIR/dev.env has the variables that the other commands read, once all is ready: set -a; . DIR/dev.env; set +a"
}

// Run runs until ctx ends.
func (c *devCommand) Run(ctx context.Context, p *Process) error {
	return dev.Run(ctx, dev.Options{
		Dir: c.Dir, AdminListen: c.AdminListen, SidecarListen: c.SidecarListen, SMTPURL: c.SMTPURL, Guardrails: c.Guardrails, Demo: !c.NoDemo,
		Out: p.Stdout, Command: callName(), Version: version(),
	})
}

// callName is how the user called this program: `go run` leaves it in a
// temporary directory.
func callName() string {
	if fromGoRun() {
		return "go run ./cmd/usher"
	}
	return os.Args[0]
}
