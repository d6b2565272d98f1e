package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/usher-authz/usher/admin/jobs"
	"github.com/usher-authz/usher/admin/mail"
	"github.com/usher-authz/usher/admin/store"
)

// jobConns are the connections of the job queue: two listen and lead, the others work.
const jobConns = 6

// mails tells whether there is a way to send mails.
func (o Options) mails() bool { return o.SMTPURL != "" || o.MailDir != "" }

// sender is who takes mails away; nil without one. The directory of mails is made.
func (o Options) sender() (mail.Sender, error) {
	if !o.mails() {
		return nil, nil
	}
	if o.MailFrom == "" {
		return nil, errors.New("the address that mails come from is missing: give --mail-from")
	}
	addresses, err := mail.ParseAddresses(o.MailFrom, o.MailReplyTo)
	if err != nil {
		return nil, err
	}
	if _, err := mail.LoadTemplates(o.MailTemplates); err != nil {
		return nil, err
	}
	if o.SMTPURL == "" {
		return mail.NewDirectory(o.MailDir, addresses)
	}
	return mail.NewSMTP(o.SMTPURL, addresses, nil)
}

// outbox is where changes queue their mails; nil without a way to send them.
func (o Options) outbox() (store.Outbox, error) {
	if !o.mails() {
		return nil, nil
	}
	return jobs.NewOutbox()
}

// startJobs works the queue until it is stopped.
func (s *Server) startJobs(ctx context.Context, db *store.Store) error {
	o := s.options
	sender, err := o.sender()
	if err != nil || sender == nil {
		return err
	}
	templates, err := mail.LoadTemplates(o.MailTemplates)
	if err != nil {
		return err
	}
	pool, err := store.NewPool(ctx, o.DatabaseURL, jobConns)
	if err != nil {
		return err
	}
	s.push("the connections of the job queue", func(context.Context) error { pool.Close(); return nil })
	base := o.PublicURL
	if base == "" {
		base = s.url()
	}
	queue, err := jobs.New(jobs.Options{
		Pool: pool, Source: db, Sender: sender, Templates: templates, PublicURL: strings.TrimRight(base, "/"),
		Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return fmt.Errorf("make the job queue: %w", err)
	}
	if err := queue.Start(ctx); err != nil {
		return err
	}
	s.push("the job queue", queue.Stop)
	return nil
}
