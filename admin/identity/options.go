package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultAccountClaim is the claim that holds the account's id.
const DefaultAccountClaim = "sub"

// Options say whose tokens are taken. Issuer and Audience are required: a provider
// signs tokens for many, and those for others must not open anything here.
type Options struct {
	// Issuer is the provider's URL, as it stands in its tokens: https, or http on
	// loopback.
	Issuer string
	// Audience must be among those of a token.
	Audience string
	// AccountClaim holds the account's id; default [DefaultAccountClaim].
	AccountClaim string

	Client     *http.Client // asks the provider; default: one with a time-out
	Clock      func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer // takes the metrics; none if nil
}

// IsZero tells whether no provider is configured.
func (o Options) IsZero() bool { return o.Issuer == "" && o.Audience == "" }

// Validate reports every problem at once.
func (o Options) Validate() error {
	var errs []error
	if o.Issuer == "" {
		errs = append(errs, errors.New("--oidc-audience needs --oidc-issuer: whose tokens are they?"))
	} else if err := checkIssuer(o.Issuer); err != nil {
		errs = append(errs, err)
	}
	if o.Issuer != "" && o.Audience == "" {
		errs = append(errs, errors.New("--oidc-issuer needs --oidc-audience: without it, tokens that the provider signed for others would open this server"))
	}
	return errors.Join(errs...)
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("--oidc-issuer must be a URL like https://id.example.com, not %q", issuer)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("--oidc-issuer %q must be https: who can change what the provider says can be anybody", issuer)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// NewClient is a client with a time-out and connections of its own.
func NewClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http says so
	return &http.Client{Timeout: fetchTimeout, Transport: transport}
}

func (o Options) withDefaults() Options {
	if o.AccountClaim == "" {
		o.AccountClaim = DefaultAccountClaim
	}
	if o.Client == nil {
		o.Client = NewClient()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
