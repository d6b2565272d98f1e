package main

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/cmd/usher/dev"
)

type adminCommand struct {
	database  `embed:""`
	Listen    string `default:"127.0.0.1:8080" help:"Where to listen, HOST:PORT; port 0 picks a free one."`
	listening `embed:""`

	signingKeys `embed:""`

	CacheLimit        int           `default:"1000000" help:"How many (subject, resource) pairs are cached."`
	MinRevisionWait   time.Duration `default:"2s" help:"How long a request waits for the revision that it demands."`
	BundleMinInterval time.Duration `default:"5s" help:"How old a bundle may be that answers a poll."`
	DecisionRetention time.Duration `default:"720h" help:"How long logged decisions are kept."`
	ReadRetention     time.Duration `default:"2160h" help:"How long it is kept which services read other people's permissions; 168h at least."`
	GrantRetention    time.Duration `default:"720h" help:"How long grants that have ended are shown before they are cleaned away; 0: not at all."`
	InvitationTTL     time.Duration `default:"168h" help:"How long an invitation may be accepted."`

	InvitationsPerOwner   int `default:"500" help:"How many invitations an account may send in an hour; 0: any number."`
	InvitationsPerAddress int `default:"20"  help:"How many invitations an address may be sent in an hour; 0: any number."`

	RegistrationURL string        `placeholder:"URL"   help:"The platform's hook that makes an account for whoever accepts an invitation by its link: POST {email, display_name} gives {id}."`
	SMTPURL         string        `name:"smtp-url" placeholder:"URL" help:"The mail server, smtp://USER:PASSWORD@HOST:587 or smtps://…; without it no mails are sent."`
	MailFrom        string        `placeholder:"ADDRESS" help:"What mails come from, e.g. 'usher <usher@example.com>'."`
	MailReplyTo     string        `placeholder:"ADDRESS" help:"Where answers to mails go, if not to --mail-from."`
	MailTemplates   string        `placeholder:"DIR"     help:"Templates of mails that replace the built-in ones: words.tmpl, mail.txt, mail.html."`
	MailWindow      time.Duration `default:"1m" help:"How long edits of what is shared are gathered into one mail; 0: not at all."`

	RegistrationToken string `placeholder:"TOKEN" help:"The bearer token that the hook is called with."`
	OIDCIssuer        string `name:"oidc-issuer"        help:"The platform's OpenID provider: accounts call /v1 with its JWTs. None, if empty." placeholder:"URL"`
	OIDCAudience      string `name:"oidc-audience"      help:"What must stand among the audiences of a JWT; required with --oidc-issuer."         placeholder:"NAME"`
	OIDCAccountClaim  string `name:"oidc-account-claim" default:"sub" help:"The claim of a JWT that holds the account's id."`

	decisionLogging `embed:""`

	logging `embed:""`
}

// Help is shown by --help below the options.
func (*adminCommand) Help() string {
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
	signer, err := c.signer()
	if err != nil {
		return err
	}
	logged, err := c.decisionLog(ctx, p.Stdout, "", "")
	if err != nil {
		return err
	}
	embedded, err := dev.EmbeddedPolicy()
	if err != nil {
		return err
	}
	options := admin.Options{
		Embedded:    embedded.Digest,
		DecisionLog: logged,
		Signer:      signer,
		DatabaseURL: c.DatabaseURL, Listen: c.Listen, InsecureListen: c.InsecureListen, PublicURL: c.PublicURL, Version: version(),
		CacheLimit: c.CacheLimit, MinRevisionWait: c.MinRevisionWait, BundleMinInterval: c.BundleMinInterval,
		DecisionRetention: c.DecisionRetention, ReadRetention: c.ReadRetention, GrantRetention: c.GrantRetention, InvitationTTL: c.InvitationTTL,
		Identity:        identity.Options{Issuer: c.OIDCIssuer, Audience: c.OIDCAudience, AccountClaim: c.OIDCAccountClaim},
		RegistrationURL: c.RegistrationURL, RegistrationToken: c.RegistrationToken,
		SMTPURL: c.SMTPURL, MailFrom: c.MailFrom, MailReplyTo: c.MailReplyTo, MailTemplates: c.MailTemplates, MailWindow: c.MailWindow, Logger: log,
	}
	if options.InvitationsPerOwner = c.InvitationsPerOwner; c.InvitationsPerOwner == 0 {
		options.InvitationsPerOwner = -1
	}
	if options.InvitationsPerAddress = c.InvitationsPerAddress; c.InvitationsPerAddress == 0 {
		options.InvitationsPerAddress = -1
	}
	if options.GrantRetention == 0 {
		options.GrantRetention = -1
	}
	if options.MailWindow == 0 {
		options.MailWindow = -1
	}
	if options.MinRevisionWait == 0 {
		options.MinRevisionWait = -1 // not at all, where 0 is the default
	}
	switch {
	case c.TLSCert != "" && c.TLSKey != "":
		if options.TLS, err = sidecar.TLSConfig(c.TLSCert, c.TLSKey, log); err != nil {
			return err
		}
	case c.TLSCert != "" || c.TLSKey != "":
		return errors.New("--tls-cert and --tls-key come together: give both or neither")
	case c.InsecureListen:
		log.WarnContext(ctx, "listening without TLS, as asked: tokens and answers can be read on the way", "address", c.Listen)
	}
	server, err := admin.New(options)
	if err != nil {
		return err
	}
	return serve(ctx, server, "admin", c.Listen, log)
}
