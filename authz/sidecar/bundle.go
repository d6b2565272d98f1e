package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

const (
	// bundleWait is how long the server of a bundle is asked to hold a poll.
	bundleWait = 30 * time.Second
	// bundleTimeout bounds the whole download of a bundle, the wait included.
	bundleTimeout = 10 * time.Minute
)

// bundle answers from an OPA bundle alone: a state for each bundle that comes, the
// last good one as long as none does.
type bundle struct {
	*authz.Engine
	options Options
	client  *http.Client
	applied prometheus.Counter
	failed  prometheus.Counter

	// Of run's goroutine only: what is known of the bundle in force.
	etag     string
	fileInfo os.FileInfo

	mu   sync.Mutex
	last error // of the last look, nil if it went well
}

func newBundle(o Options) (*bundle, error) {
	engine, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.AdminTLS,
		ResponseHeaderTimeout: bundleWait + 30*time.Second, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
	}
	b := &bundle{
		Engine: engine, options: o,
		client: &http.Client{Transport: transport, Timeout: bundleTimeout, CheckRedirect: sameHost},
		applied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_sidecar_bundles_applied_total", Help: "Bundles that were put in force.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_sidecar_bundles_failed_total",
			Help: "Looks at the bundle that failed: not there, not readable, or refused; the last good one stays in force. Growing is bad.",
		}),
	}
	return b, errors.Join(o.Registry.Register(b.applied), o.Registry.Register(b.failed))
}

// sameHost keeps the token from following a redirection elsewhere.
func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) >= 5 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

func (b *bundle) tokens() server.Tokens { return nil }

func (b *bundle) now() time.Time { return b.Now() }

func (b *bundle) status() status {
	state := b.State()
	if state != nil {
		return status{ready: true, revision: state.Revision()}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil {
		return status{reason: "the bundle could not be used: the log says why"}
	}
	return status{reason: "the bundle has not been read yet"}
}

// prepare reads a bundle that is a file, so that a wrong name or a broken file is
// an error of Start. A server may come later than its sidecars.
func (b *bundle) prepare(ctx context.Context) error {
	if isURL(b.options.Bundle) {
		return nil
	}
	changed, err := b.look(ctx)
	if err == nil {
		b.note(ctx, changed, nil)
	}
	return err
}

// run looks at the bundle again and again, one look an interval; a server that holds
// polls longer than that is asked again at once.
func (b *bundle) run(ctx context.Context) error {
	defer b.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		begun := time.Now()
		changed, err := b.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		b.note(ctx, changed, err)
		timer.Reset(max(b.options.BundleInterval-time.Since(begun), 0))
	}
}

func (b *bundle) note(ctx context.Context, changed bool, err error) {
	b.mu.Lock()
	repeated := err != nil && b.last != nil && b.last.Error() == err.Error()
	b.last = err
	b.mu.Unlock()
	switch {
	case err != nil:
		b.failed.Inc()
		if !repeated {
			b.options.Logger.LogAttrs(ctx, slog.LevelError, "the bundle could not be used, the last good one stays in force",
				slog.String("bundle", b.options.Bundle), slog.Any("error", err))
		}
	case changed:
		b.applied.Inc()
		b.options.Logger.InfoContext(ctx, "bundle in force", "bundle", b.options.Bundle, "revision", b.State().Revision())
	}
}

// look reads the bundle if it is not the one that was read last.
func (b *bundle) look(ctx context.Context) (changed bool, err error) {
	if isURL(b.options.Bundle) {
		return b.fetch(ctx)
	}
	file, err := os.Open(b.options.Bundle)
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if was := b.fileInfo; was != nil && os.SameFile(was, info) && was.ModTime().Equal(info.ModTime()) && was.Size() == info.Size() {
		return false, nil
	}
	if err := b.use(ctx, file); err != nil {
		return false, err
	}
	b.fileInfo = info
	return true, nil
}

// fetch asks the bundle's URL, as a stock OPA does.
func (b *bundle) fetch(ctx context.Context) (changed bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.options.Bundle, http.NoBody)
	if err != nil {
		return false, err
	}
	if b.options.Token != "" {
		r.Header.Set("Authorization", "Bearer "+b.options.Token)
	}
	if b.etag != "" {
		r.Header.Set("If-None-Match", b.etag)
		r.Header.Set("Prefer", fmt.Sprintf("modes=snapshot;wait=%d", int(bundleWait.Seconds())))
	}
	response, err := b.client.Do(r)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return false, nil
	default:
		return false, fmt.Errorf("the server of the bundle answered with %s", response.Status)
	}
	if err := b.use(ctx, response.Body); err != nil {
		return false, err
	}
	b.etag = response.Header.Get("ETag")
	return true, nil
}

// use puts the bundle in from in force, if it is one and not older than the one
// before.
func (b *bundle) use(ctx context.Context, from io.Reader) error {
	contents, err := policies.ReadSignedBundle(from, b.options.Verifier)
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	var reuse *authz.Policy
	if before := b.State(); before != nil {
		reuse = before.Policy()
	}
	state, err := authz.BundleState(ctx, contents, reuse)
	if err != nil {
		return err
	}
	return b.Reset(state)
}
