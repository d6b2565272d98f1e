package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/usher-authz/usher/admin/jobs"
	"github.com/usher-authz/usher/admin/store"
)

// mailConns are the connections that one command needs.
const mailConns = 2

type mailCommand struct {
	List    mailListCommand    `cmd:"" help:"List the mails that wait or were given up, with what they failed of."`
	Retry   mailRetryCommand   `cmd:"" help:"Send a mail now that waits or was given up."`
	Discard mailDiscardCommand `cmd:"" help:"Take a mail out of the queue, unsent."`
}

type mailListCommand struct {
	database `embed:""`
}

// operate lets do look after the queue of mails.
func (d database) operate(ctx context.Context, do func(*jobs.Operator) error) error {
	s, err := d.open(ctx) // refuses a schema that is not ours
	if err != nil {
		return err
	}
	s.Close()
	pool, err := store.NewPool(ctx, d.DatabaseURL, mailConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	operator, err := jobs.NewOperator(pool)
	if err != nil {
		return err
	}
	return do(operator)
}

// Run prints a table.
func (c *mailListCommand) Run(ctx context.Context, p *Process) error {
	return c.operate(ctx, func(o *jobs.Operator) error {
		t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "ID\tSTATE\tKIND\tOWNER\tMEMBER\tATTEMPTS\tCREATED\tNEXT\tERROR") // a tabwriter tells at Flush
		if err := o.List(ctx, func(m jobs.Mail) error {
			next := "never"
			if !m.Next.IsZero() {
				next = m.Next.Format(time.RFC3339)
			}
			_, err := fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.ID, m.State, m.Kind, m.Owner, m.Member, m.Attempts,
				m.Created.Format(time.RFC3339), next, strings.Join(strings.Fields(m.Error), " "))
			return err
		}); err != nil {
			return err
		}
		return t.Flush()
	})
}

type mailRetryCommand struct {
	database `embed:""`

	ID int64 `arg:"" help:"The mail's id, as mail list shows it."`
}

// Run retries.
func (c *mailRetryCommand) Run(ctx context.Context, p *Process) error {
	return c.operate(ctx, func(o *jobs.Operator) error {
		if err := o.Retry(ctx, c.ID); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.Stdout, "queued to be sent now")
		return err
	})
}

type mailDiscardCommand struct {
	database `embed:""`

	ID int64 `arg:"" help:"The mail's id, as mail list shows it."`
}

// Run discards.
func (c *mailDiscardCommand) Run(ctx context.Context, p *Process) error {
	return c.operate(ctx, func(o *jobs.Operator) error {
		if err := o.Discard(ctx, c.ID); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.Stdout, "discarded")
		return err
	})
}
