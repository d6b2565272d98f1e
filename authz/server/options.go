package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/routes"
)

// Options configures an [API].
type Options struct {
	Decider  authz.Decider  // required
	Searcher authz.Searcher // required
	// Routes maps what reverse proxies ask about; nil: there is no forward-auth.
	Routes *routes.Routes
	// Tokens knows the service tokens; required by listeners with [AuthToken].
	Tokens Tokens

	Clock      func() time.Time      // when tokens end; default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Validate reports every problem of o at once.
func (o Options) Validate() error {
	if o.Decider == nil || o.Searcher == nil {
		return errors.New("a check API needs a Decider and a Searcher")
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Listener is what differs from one listener of an [API] to the next.
type Listener struct {
	Auth Auth // default [AuthToken]
	// PublicURL is where callers find the listener: https, or http on loopback,
	// without query and fragment (AuthZEN, Policy Decision Point Metadata). Empty: what
	// the request was sent to.
	PublicURL string
}

// Validate reports every problem of l at once.
func (l Listener) Validate() error {
	var errs []error
	if l.Auth != "" && !l.Auth.Valid() {
		errs = append(errs, fmt.Errorf("auth is %q, neither token nor none", l.Auth))
	}
	if l.PublicURL != "" {
		if err := validatePublicURL(l.PublicURL); err != nil {
			errs = append(errs, fmt.Errorf("the public URL %q: %w", l.PublicURL, err))
		}
	}
	return errors.Join(errs...)
}

func validatePublicURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("does not parse")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("is not https://HOST[:PORT][/PATH]")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return errors.New("must be https, except on loopback")
	}
}

// isLoopback tells whether host is this machine by its name or number.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
