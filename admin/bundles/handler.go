package bundles

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// Pattern is where the handler stands in a [http.ServeMux].
const Pattern = "GET /v1/bundles/usher.tar.gz"

// The content types of a bundle. OPA polls long if it is told the second.
const (
	contentType     = "application/gzip"
	longContentType = "application/vnd.openpolicyagent.bundles"
)

const headerMinRevision = "Usher-Min-Revision"

// Options configure a [Handler]. Source and Fail are required.
type Options struct {
	Source Source
	// Fail answers a request that err kept from being answered: a
	// *policies.MalformedError (400), an *authz.RevisionError or an
	// *authz.UnavailableError (503), what Source.Head gave, or a fault (500).
	Fail func(w http.ResponseWriter, r *http.Request, err error)

	Key             *signing.Key          // signs bundles; nil: they are not signed
	MinInterval     time.Duration         // between bundles built for polls; 5 s if zero
	MinRevisionWait time.Duration         // for the state to catch up; 2 s if zero
	Logger          *slog.Logger          // none if nil
	Registerer      prometheus.Registerer // no metrics if nil
}

// The defaults of [Options].
const (
	DefaultMinInterval     = 5 * time.Second
	DefaultMinRevisionWait = 2 * time.Second
)

// Handler answers GET and HEAD of the bundle. It does not authenticate: whoever
// wires it does. It starts no goroutines.
type Handler struct {
	source   Source
	builder  *builder
	fail     func(http.ResponseWriter, *http.Request, error)
	interval time.Duration
	wait     time.Duration
	metrics  *metrics
}

var _ http.Handler = (*Handler)(nil)

// New makes a handler. It returns every option that is wrong, or what Registerer
// failed with.
func New(o Options) (*Handler, error) {
	var errs []error
	if o.Source == nil {
		errs = append(errs, errors.New("bundles: Source is required"))
	}
	if o.Fail == nil {
		errs = append(errs, errors.New("bundles: Fail is required"))
	}
	if o.MinInterval < 0 || o.MinRevisionWait < 0 {
		errs = append(errs, errors.New("bundles: MinInterval and MinRevisionWait must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.MinInterval == 0 {
		o.MinInterval = DefaultMinInterval
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Handler{
		source: o.Source, fail: o.Fail, interval: o.MinInterval, wait: o.MinRevisionWait, metrics: m,
		builder: &builder{source: o.Source, key: o.Key, logger: o.Logger, metrics: m},
	}, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait := preferredWait(r.Header)
	bundle, current, err := h.answer(r, wait)
	if err != nil {
		h.metrics.responses.WithLabelValues("failed").Inc()
		h.fail(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "private, no-cache")
	header.Set("ETag", current.etag())
	if wait > 0 {
		header.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	if bundle == nil {
		h.metrics.responses.WithLabelValues("not_modified").Inc()
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.metrics.responses.WithLabelValues("sent").Inc()
	header.Set("Content-Type", contentType)
	if wait > 0 {
		header.Set("Content-Type", longContentType)
	}
	header.Set("Content-Length", strconv.Itoa(len(bundle.body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(bundle.body) // a reader that is gone needs no answer
	}
}

// answer is the bundle to send, or nil for 304, and the version that either is
// about.
func (h *Handler) answer(r *http.Request, wait time.Duration) (*built, version, error) {
	ctx := r.Context()
	if r.URL.RawQuery != "" {
		return nil, version{}, &policies.MalformedError{Where: "query", Reason: "has a parameter that is not known here"}
	}
	least, err := minRevision(r.Header)
	if err != nil {
		return nil, version{}, err
	}
	have := parseIfNoneMatch(r.Header)
	if have == nil {
		head, err := h.source.Head(ctx)
		if err != nil {
			return nil, version{}, err
		}
		least = max(least, head)
	}
	if err := h.reach(ctx, least); err != nil {
		return nil, version{}, err
	}
	var bundle *built
	if have == nil {
		bundle, err = h.builder.atLeast(ctx, least)
	} else {
		bundle, err = h.poll(ctx, have, least, time.Now().Add(wait))
	}
	// The server ends its requests' contexts when it stops: a poll then goes away
	// with what it has, and comes back to whoever serves next.
	if err != nil && (have == nil || ctx.Err() == nil) {
		return nil, version{}, brokenOff(ctx, err)
	}
	if bundle != nil {
		return bundle, bundle.version, nil
	}
	return nil, have.newest(versionOf(h.source.State(), h.builder.key)), nil
}

// reach waits until the state is of revision rev or later, as long as is
// configured.
func (h *Handler) reach(ctx context.Context, rev policies.Revision) error {
	waiting, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	err := h.source.WaitFor(waiting, rev)
	state := h.source.State()
	switch {
	case ctx.Err() != nil:
		return brokenOff(ctx, ctx.Err())
	case state == nil:
		return &authz.UnavailableError{Reason: "no state has arrived yet"}
	case err != nil && errors.Is(err, context.DeadlineExceeded):
		return &authz.RevisionError{Want: rev, Have: state.Revision()}
	}
	return err
}

// brokenOff is err, unless it is that the server, or whoever asked, ended the
// request.
func brokenOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &authz.UnavailableError{Reason: "the request was broken off", Cause: err}
	}
	return err
}

// poll is a bundle that whoever polls does not have, nil if there is none until
// the deadline.
func (h *Handler) poll(ctx context.Context, have *known, least policies.Revision, deadline time.Time) (*built, error) {
	usable := func(b *built) bool { return b.version.revision >= least && !have.has(b.version) }
	for {
		last := h.builder.last()
		fresh := last != nil && time.Since(last.at) < h.interval
		if fresh && usable(last) {
			return last, nil
		}
		over := !time.Now().Before(deadline)
		state := h.source.State()
		var err error
		switch {
		case have.has(versionOf(state, h.builder.key)):
			if over {
				return nil, nil
			}
			err = h.next(ctx, have, state, deadline)
		case !fresh || last.version.revision < least:
			if last, err = h.builder.join(ctx, last); err == nil && usable(last) {
				return last, nil
			}
		default: // there is something new, but too soon
			if over {
				return nil, nil
			}
			err = pause(ctx, minTime(deadline, last.at.Add(h.interval)))
		}
		if err != nil {
			return nil, err
		}
	}
}

// next waits for a state beyond this one, and beyond all that the poll has, until
// the deadline.
func (h *Handler) next(ctx context.Context, have *known, state policies.PlatformData, deadline time.Time) error {
	beyond := have.newest(versionOf(state, h.builder.key)).revision
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := h.source.WaitFor(waiting, max(beyond, state.Revision())+1); ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// pause returns at the given time, or when ctx ends.
func pause(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func minRevision(h http.Header) (policies.Revision, error) {
	text := h.Get(headerMinRevision)
	if text == "" {
		return 0, nil
	}
	rev, err := policies.ParseRevision(text)
	if err != nil {
		return 0, &policies.MalformedError{Where: headerMinRevision, Reason: err.Error()}
	}
	return rev, nil
}

// preferredWait is the wait of Prefer (RFC 7240, 4.3), at most
// [policies.MaxBundleWait]; zero if there is none or it is no whole number of
// seconds. OPA separates its preferences by semicolons.
func preferredWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				return 0
			}
			return min(time.Duration(seconds)*time.Second, policies.MaxBundleWait)
		}
	}
	return 0
}
