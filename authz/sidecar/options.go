package sidecar

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies/signing"
)

// Mode is where a sidecar's answers come from.
type Mode string

// The modes.
const (
	ModeResident Mode = "resident"  // every account in memory; the default
	ModeOnDemand Mode = "on-demand" // what is asked for, by Redis and the admin server
	ModeBundle   Mode = "bundle"    // an OPA bundle alone; set by Options.Bundle
)

// The defaults of [Options].
const (
	DefaultListen          = "127.0.0.1:8181"
	DefaultSocketMode      = fs.FileMode(0o600)
	DefaultMinRevisionWait = 2 * time.Second
	DefaultBundleInterval  = 5 * time.Second
	DefaultMaxOffline      = 24 * time.Hour
)

// Options configures a [Sidecar]. Secrets in it never show in logs or errors.
type Options struct {
	Mode Mode // default [ModeResident], or [ModeBundle] if Bundle is set
	// Name is what the admin server calls this sidecar in receipts; default: the host's
	// name and the process's id.
	Name string
	// Version is the program's, for the admin server; empty: it does not say.
	Version  string
	AdminURL string // of the admin server; required but with a bundle
	// Token is the service token, of scope bundles, for the admin server and for a
	// bundle's URL.
	Token    string
	AdminTLS *tls.Config // to the admin server; nil: Go's defaults
	// Verifier verifies what the admin server signs, a bundle too; nil: the connection is
	// trusted, which must be TLS or loopback then.
	Verifier *signing.Verifier

	// Dir is where the resident mode keeps its snapshot; empty: nowhere. [New] reads it.
	Dir string
	// MaxOffline is how long ago a snapshot on disk may have been confirmed fresh, to be
	// answered from after a start without the admin server.
	MaxOffline time.Duration
	// SnapshotInterval is how long after a change a snapshot is begun at the latest;
	// default disk.DefaultInterval.
	SnapshotInterval time.Duration

	// Redis and RedisKeys are those of the on-demand mode; nil: none, which is slower.
	Redis     *redis.UniversalOptions
	RedisKeys [][]byte
	// MemoryLimit is about how many bytes the on-demand mode may keep.
	MemoryLimit int64

	// Bundle is a file or an http(s) URL; then there is no admin server and no Redis.
	Bundle string
	// BundleInterval is how often the bundle is looked at.
	BundleInterval time.Duration

	// Listen is HOST:PORT, where port 0 is any free one; empty: no TCP.
	Listen string
	// Auth is what the TCP listener asks for; default token, with a bundle none.
	// None is for loopback only.
	Auth server.Auth
	// PublicURL is where callers find the TCP listener; default: its address.
	PublicURL string
	// TLSCert and TLSKey are PEM files, read anew when they change; empty: no TLS.
	TLSCert, TLSKey string
	// InsecureListen allows TCP without TLS beyond loopback.
	InsecureListen bool
	// Socket is the path of a Unix socket, which asks for nothing; empty: none.
	Socket     string
	SocketMode fs.FileMode // of the socket's file
	// NoListener is for a program that embeds the sidecar, and asks it by Check: then
	// neither Listen nor Socket is needed.
	NoListener bool
	// Routes maps what proxies ask about to checks; nil: no proxy asks.
	Routes *routes.Routes
	// RoutesFile is a file of such routes instead, read anew when it changes.
	RoutesFile string
	// EnvoyListen is HOST:PORT for Envoy's gRPC, under the same Auth and TLS as Listen,
	// and EnvoySocket the path of a Unix socket for it; empty: none.
	EnvoyListen, EnvoySocket string

	// CacheLimit is the most (subject, resource) pairs that are kept; see
	// authz.DefaultCacheLimit.
	CacheLimit int
	// MinRevisionWait is how long a check waits for its min_revision; negative: not
	// at all.
	MinRevisionWait time.Duration
	// MaxStaleness is the age of the data beyond which checks are answered with 503;
	// 0: none. A bundle has no age: the option is refused.
	MaxStaleness time.Duration

	// DecisionLog is where decisions are logged; nil: they are not. Its Logger and
	// Registerer are the sidecar's.
	DecisionLog *decisionlog.Options

	Clock  func() time.Time // default time.Now
	Logger *slog.Logger     // default: discards
	// Registry takes the metrics and is shown under /metrics; default: one of the
	// sidecar's own, with those of the Go runtime and the process.
	Registry *prometheus.Registry
}

func (o Options) withDefaults() Options {
	if o.Mode == "" {
		o.Mode = ModeResident
		if o.Bundle != "" {
			o.Mode = ModeBundle
		}
	}
	if o.Auth == "" {
		o.Auth = server.AuthToken
		if o.Mode == ModeBundle {
			o.Auth = server.AuthNone
		}
	}
	if o.Name == "" {
		host, _ := os.Hostname() // without one, the id alone
		o.Name = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if o.BundleInterval == 0 {
		o.BundleInterval = DefaultBundleInterval
	}
	if o.MaxOffline == 0 {
		o.MaxOffline = DefaultMaxOffline
	}
	if o.SocketMode == 0 {
		o.SocketMode = DefaultSocketMode
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
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
	return errors.Join(o.validateSource(), o.validateListeners())
}

func (o Options) validateSource() error {
	var errs []error
	problem := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	switch o.Mode {
	case ModeResident, ModeOnDemand:
		problem(o.Bundle != "", "the mode %s is fed by an admin server: it takes no bundle", o.Mode)
		problem(o.AdminURL == "", "the URL of the admin server is missing: give --admin-url, or --bundle")
		problem(o.Verifier == nil && !private(o.AdminURL),
			"on the way to %s anybody could write permissions: give --verification-key-file, or an https URL", o.AdminURL)
	case ModeBundle:
		problem(o.Bundle == "", "the mode bundle needs the bundle's file or URL: --bundle")
		problem(o.AdminURL != "", "a sidecar is fed by an admin server or by a bundle, not by both")
		problem(isURL(o.Bundle) && o.Verifier == nil && !private(o.Bundle),
			"on the way from %s anybody could write permissions: give --verification-key-file, or an https URL", o.Bundle)
		problem(o.MaxStaleness != 0, "a bundle does not tell how old it is: --max-staleness cannot be kept")
	default:
		problem(true, "the mode is %q, none of resident, on-demand and bundle", o.Mode)
	}
	problem(o.Redis != nil && o.Mode != ModeOnDemand, "Redis is for the mode on-demand only")
	problem(o.Redis != nil && len(o.RedisKeys) == 0, "entries in Redis must be authenticated: give --redis-key-file")
	problem(o.CacheLimit < 0 || o.MemoryLimit < 0, "a limit of the caches is negative")
	problem(o.BundleInterval < 0, "the interval of looking at the bundle is negative")
	problem(o.Dir != "" && o.Mode != ModeResident, "a snapshot on disk is of the mode resident only")
	problem(o.Dir != "" && o.Token == "", "what is on disk is authenticated by the service token: give --token")
	problem(o.MaxOffline < 0 || o.SnapshotInterval < 0, "a time of the snapshot on disk is negative")
	problem(o.MaxStaleness < 0, "the greatest staleness is negative")
	if d := o.DecisionLog; d != nil {
		errs = append(errs, d.Validate())
		problem(d.URL != "" && d.Token != "" && !private(d.URL), "on the way to %s anybody could read the token of the decision log: give an https URL", d.URL)
	}
	if isURL(o.Bundle) {
		u, err := url.Parse(o.Bundle)
		problem(err != nil || u.Host == "" || u.User != nil, "the bundle's URL is not http[s]://HOST[:PORT]/PATH")
	}
	return errors.Join(errs...)
}

func (o Options) validateListeners() error {
	var errs []error
	problem := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	problem(o.Listen == "" && o.Socket == "" && !o.NoListener, "there is nothing to listen on: give --listen or --socket")
	problem((o.TLSCert == "") != (o.TLSKey == ""), "a certificate and its key come together: give both or neither")
	problem(o.TLSCert != "" && o.Listen == "" && o.EnvoyListen == "", "a certificate is for a TCP listener: give --listen")
	problem(o.Routes != nil && o.RoutesFile != "", "routes are given as such or in a file, not both")
	problem((o.EnvoyListen != "" || o.EnvoySocket != "") && o.Routes == nil && o.RoutesFile == "",
		"what Envoy asks about must be mapped to checks: give --routes")
	problem(o.Socket != "" && o.Socket == o.EnvoySocket, "HTTP and Envoy's gRPC cannot share a Unix socket")
	problem(o.SocketMode&^fs.ModePerm != 0, "the mode of the Unix socket is not one of permissions")
	if o.Listen == "" && o.EnvoyListen == "" {
		return errors.Join(errs...)
	}
	err := server.Listener{Auth: o.Auth, PublicURL: o.PublicURL}.Validate()
	problem(err != nil, "the TCP listener: %w", err)
	for _, address := range []string{o.Listen, o.EnvoyListen} {
		if address != "" {
			errs = append(errs, o.validateAddress(address))
		}
	}
	return errors.Join(errs...)
}

// validateAddress tells whether callers may be served on address as o has it.
func (o Options) validateAddress(address string) error {
	var errs []error
	problem := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	host, _, err := net.SplitHostPort(address)
	problem(err != nil, "the address %q to listen on is not HOST:PORT", address)
	if err != nil || isLoopback(host) {
		problem(o.Mode == ModeBundle && o.Auth == server.AuthToken, "a bundle has no tokens: a listener cannot ask for them")
		return errors.Join(errs...)
	}
	problem(o.Mode == ModeBundle,
		"a bundle has no tokens, so that everybody could ask on %s: listen on loopback or on a Unix socket", address)
	problem(o.Mode != ModeBundle && o.Auth == server.AuthNone,
		"without tokens everybody could ask on %s: only loopback and Unix sockets may do without", address)
	problem(o.TLSCert == "" && !o.InsecureListen && o.Mode != ModeBundle,
		"%s is beyond loopback and has no TLS: give a certificate, or --insecure-listen", address)
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

// private tells whether nobody can stand on the way to a URL: it has TLS, or does not
// leave this machine.
func private(address string) bool {
	u, err := url.Parse(address)
	return err != nil || u.Scheme != "http" || isLoopback(u.Hostname())
}

func isURL(bundle string) bool {
	return strings.HasPrefix(bundle, "http://") || strings.HasPrefix(bundle, "https://")
}
