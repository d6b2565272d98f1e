package admin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/registration"
	"github.com/usher-authz/usher/admin/rest"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// The defaults of [Options].
const (
	DefaultListen                = "127.0.0.1:8080"
	DefaultMinRevisionWait       = 2 * time.Second
	DefaultBundleMinInterval     = 5 * time.Second
	DefaultDecisionRetention     = 30 * 24 * time.Hour
	DefaultMaxInFlight           = 512
	DefaultInvitationsPerOwner   = 500
	DefaultInvitationsPerAddress = 20
	DefaultMailWindow            = time.Minute
	DefaultGrantRetention        = 30 * 24 * time.Hour
	DefaultRequestTimeout        = 30 * time.Second
)

// maxDecisionRetention is ten years: each day is a partition.
const maxDecisionRetention = 3650 * 24 * time.Hour

// Options configures a [Server]. Only DatabaseURL is required. Secrets in it never
// show in logs or errors.
type Options struct {
	// DatabaseURL is PostgreSQL's, migrated by `usher migrate`.
	DatabaseURL string
	// Listen is HOST:PORT, where port 0 is any free one; default [DefaultListen].
	Listen string
	// TLS is the listener's; nil: none, which is for loopback only.
	TLS *tls.Config
	// InsecureListen allows to listen without TLS beyond loopback.
	InsecureListen bool
	// PublicURL is where callers find the server; default: its address.
	PublicURL string
	// Signer signs the feed, and its first key the bundles; nil: neither is signed.
	Signer *signing.Signer
	// Version names the program in the OpenAPI document.
	Version string
	// Embedded is the digest of the catalogue and the Rego of this program, to say so
	// where others are in force; zero: nothing is said.
	Embedded policies.Hash

	// Identity says which OpenID provider's JWTs prove accounts; zero: none do. Its
	// clock, logger and metrics are the server's.
	Identity identity.Options

	// CacheLimit is the most (subject, resource) pairs that the engine keeps; default
	// authz.DefaultCacheLimit.
	CacheLimit int
	// MinRevisionWait is how long a request waits for the revision that it demands;
	// negative: not at all.
	MinRevisionWait time.Duration
	// BundleMinInterval is how old a bundle may be that answers a poll.
	BundleMinInterval time.Duration
	// InvitationTTL is how long an invitation may be accepted; default: the store's.
	InvitationTTL time.Duration
	// DecisionLog is where the decisions of this server's check API are logged, with its
	// logger and metrics; nil: nowhere.
	DecisionLog *decisionlog.Options
	// DecisionRetention is how long logged decisions are kept; default
	// [DefaultDecisionRetention].
	DecisionRetention time.Duration
	// ReadRetention is how long it is kept who read other people's permissions; default
	// readlog.DefaultRetention, at least store.MinReadRetention.
	ReadRetention time.Duration
	// GrantRetention is how long grants that have ended are shown before they are cleaned
	// away; default [DefaultGrantRetention]; negative: not at all.
	GrantRetention time.Duration
	// InvitationsPerOwner and InvitationsPerAddress are how many invitations an owner
	// may send, and an address be sent, in an hour; default [DefaultInvitationsPerOwner]
	// and [DefaultInvitationsPerAddress]; negative: any number.
	InvitationsPerOwner, InvitationsPerAddress int
	// RegistrationURL is the platform's hook that registers accounts for holders of
	// links (package registration), RegistrationToken what it is called with. Without
	// it only those who have an account may accept.
	RegistrationURL, RegistrationToken string
	// SMTPURL is the mail server's (package mail); without it and MailDir nobody is
	// told of anything. MailDir takes mails as files instead, for development.
	SMTPURL, MailDir string
	// MailFrom is what mails come from, and MailReplyTo where answers go; the same if
	// empty.
	MailFrom, MailReplyTo string
	// MailTemplates is a directory with templates that replace the embedded ones.
	MailTemplates string
	// MailWindow is how long edits of what is shared are gathered into one mail; default
	// [DefaultMailWindow]; negative: not at all.
	MailWindow time.Duration
	// MaxInFlight bounds the requests under way, feeds and polls apart.
	MaxInFlight int
	// RequestTimeout bounds a request, but for imports, feeds and polls.
	RequestTimeout time.Duration

	Clock  func() time.Time // default time.Now
	Logger *slog.Logger     // default: discards
	// Registry takes the metrics and is shown under /metrics; default: one of the
	// server's own, with those of the Go runtime and the process.
	Registry *prometheus.Registry
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.CacheLimit == 0 {
		o.CacheLimit = authz.DefaultCacheLimit
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
	}
	if o.BundleMinInterval == 0 {
		o.BundleMinInterval = DefaultBundleMinInterval
	}
	if o.DecisionRetention == 0 {
		o.DecisionRetention = DefaultDecisionRetention
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = DefaultRequestTimeout
	}
	if o.InvitationsPerOwner == 0 {
		o.InvitationsPerOwner = DefaultInvitationsPerOwner
	}
	if o.InvitationsPerAddress == 0 {
		o.InvitationsPerAddress = DefaultInvitationsPerAddress
	}
	if o.GrantRetention == 0 {
		o.GrantRetention = DefaultGrantRetention
	}
	if o.MailWindow == 0 {
		o.MailWindow = DefaultMailWindow
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports every problem of o at once, without secrets.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.DatabaseURL == "" {
		errs = append(errs, errors.New("the database's URL is missing: give --database-url"))
	}
	if o.CacheLimit < 0 || o.MaxInFlight < 0 {
		errs = append(errs, errors.New("a limit is negative"))
	}
	if o.DecisionLog != nil {
		errs = append(errs, o.DecisionLog.Validate())
	}
	if o.BundleMinInterval < 0 || o.InvitationTTL < 0 || o.RequestTimeout < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	if o.DecisionRetention < 24*time.Hour || o.DecisionRetention > maxDecisionRetention {
		errs = append(errs, errors.New("decisions are kept for 24h (a day) to 87600h (ten years)"))
	}
	if !o.Identity.IsZero() {
		if err := o.Identity.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if o.ReadRetention != 0 && o.ReadRetention < store.MinReadRetention {
		errs = append(errs, fmt.Errorf("reads are kept for %s at least", store.MinReadRetention))
	}
	if err := (server.Listener{PublicURL: o.PublicURL}).Validate(); err != nil {
		errs = append(errs, err)
	}
	if o.RegistrationURL != "" {
		if _, err := registration.New(o.RegistrationURL, o.RegistrationToken); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := o.sender(); err != nil {
		errs = append(errs, err)
	}
	host, _, err := net.SplitHostPort(o.Listen)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("the address %q to listen on is not HOST:PORT", o.Listen))
	case o.TLS == nil && !o.InsecureListen && !isLoopback(host):
		errs = append(errs, fmt.Errorf("%s is beyond loopback and has no TLS: give a certificate, or --insecure-listen", o.Listen))
	}
	return errors.Join(errs...)
}

// isLoopback tells whether host can be reached from this machine only. No host is
// all of them.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// registrar is the platform's hook; nil without one.
func (o Options) registrar() (rest.Registrar, error) {
	if o.RegistrationURL == "" {
		return nil, nil
	}
	return registration.New(o.RegistrationURL, o.RegistrationToken)
}
