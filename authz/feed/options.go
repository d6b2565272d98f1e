package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// Sink is what a resident sidecar keeps its state in; [authz.Engine] is one. The
// client alone writes to it while it runs, and from one goroutine.
type Sink interface {
	// State is the last good one, from which the client resumes; nil: none yet. A
	// sink that was given a state beforehand (from disk) resumes from that.
	State() *authz.State
	// Reset puts a verified snapshot in force and drops everything else. The error
	// leaves the sink as it was.
	Reset(s *authz.State) error
	// Apply applies a verified change that comes right after State. The error leaves
	// the sink as it was.
	Apply(ctx context.Context, c policies.Change) error
	// Observe takes the time of a heartbeat.
	Observe(t time.Time)
}

var _ Sink = (*authz.Engine)(nil)

// NoticeSink is what a sidecar on demand learns the changes by. Methods are called
// from one goroutine. An error means that the sink cannot go on from here: the
// client connects anew and asks for a new Begin.
type NoticeSink interface {
	// Begin starts afresh: what the sink knew about any account holds only as far as
	// the notices to come say.
	Begin(b Beginning) error
	// Notice is the next revision after Beginning.After, without a gap. Objects is
	// empty up to the beginning's revision, which has their effect already.
	Notice(n Notice) error
	// Observe takes the time of a heartbeat.
	Observe(t time.Time)
}

// Beginning is where a [NoticeSink] starts.
type Beginning struct {
	// Position is the revision of Objects. The sink may answer from the notice of
	// that revision on, or at once if After is the same.
	Position
	// Objects are the policy in force and the tokens, at Position.
	Objects []policies.Object
	// After is the revision after which the notices begin; at most the Position's.
	// An entry that was true at After or later and that no notice names still is.
	After policies.Revision
}

// Options configures a [Client]. Exactly one of Sink and Notices must be set; it
// decides the mode.
type Options struct {
	URL   string      // of the admin server, such as https://usher-admin:8080; required
	Token string      // service token with the scope bundles; empty: no Authorization header
	TLS   *tls.Config // nil: Go's defaults
	// Verifier verifies what the server signs; nil: the connection is trusted.
	Verifier *signing.Verifier

	Sink    Sink       // resident
	Notices NoticeSink // on demand
	// Confirmed is told of each heartbeat that names the very position of the receiver,
	// while the receiver is there; from the client's goroutine. Nil: nobody.
	Confirmed func(h *Heartbeat)
	// Witness is the last heartbeat that was verified in an earlier life; nil: none.
	Witness *Heartbeat
	// Self is what is told to the server with each revision that was applied; nil:
	// nothing is told.
	Self *Self
	// Replay is how many past revisions a Notices client wants to hear of on a fresh
	// start; default and most [MaxReplay]; negative: none.
	Replay int

	// Dial opens connections; default: a net.Dialer with a time-out.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Silence is how long to wait for a heartbeat, and for the next bytes of the answer to
	// a look-up; default [Silence].
	Silence time.Duration
	// RetryMin and RetryMax bound the pause before a reconnection, which doubles from
	// the one to the other, half of it random; default 100 ms and 5 s.
	RetryMin, RetryMax time.Duration

	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Validate reports every problem of o at once.
func (o Options) Validate() error {
	var errs []error
	if u, err := url.Parse(o.URL); err != nil {
		errs = append(errs, errors.New("the URL of the admin server does not parse"))
	} else if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, errors.New("the URL of the admin server is not http[s]://HOST[:PORT][/PATH]"))
	}
	if (o.Sink == nil) == (o.Notices == nil) {
		errs = append(errs, errors.New("exactly one of Sink and Notices must be set"))
	}
	if o.Replay > MaxReplay {
		errs = append(errs, fmt.Errorf("the replay is %d, over %d", o.Replay, MaxReplay))
	}
	if o.Self != nil && (o.Self.Name == "" || !plain(o.Self.Name) || !plain(o.Self.Version)) {
		errs = append(errs, fmt.Errorf("the name of the sidecar is not plain text of 1 to %d bytes", maxReportText))
	}
	if o.Silence < 0 || o.RetryMin < 0 || o.RetryMax < 0 {
		errs = append(errs, errors.New("a time is negative"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Replay == 0 {
		o.Replay = MaxReplay
	}
	o.Replay = max(o.Replay, 0)
	if o.Silence == 0 {
		o.Silence = Silence
	}
	if o.RetryMin == 0 {
		o.RetryMin = shortestPause
	}
	if o.RetryMax == 0 {
		o.RetryMax = max(longestPause, o.RetryMin)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
