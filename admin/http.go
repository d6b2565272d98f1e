package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/rest"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// Time-outs of a connection; those of a request are in front.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	// writeGrace is how long an answer may take to be read, beyond the time of the
	// request.
	writeGrace = 15 * time.Second
)

// front is what every request passes before its handler.
type front struct {
	log      *slog.Logger
	timeout  time.Duration
	places   chan struct{}
	active   sync.RWMutex // held to read by each request, streams apart
	requests *prometheus.HistogramVec
	refused  prometheus.Counter
	panics   prometheus.Counter
}

func newFront(o Options) (*front, error) {
	f := &front{
		log: o.Logger, timeout: o.RequestTimeout, places: make(chan struct{}, o.MaxInFlight),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "usher_admin_request_seconds",
			Help:                        "How long requests took, by route and status.",
			NativeHistogramBucketFactor: 1.1,
		}, []string{"route", "status"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_admin_requests_refused_total",
			Help: "Requests sent away because too many were under way; growing is bad.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "usher_admin_panics_total",
			Help: "Panics of handlers; any is a bug.",
		}),
	}
	for _, c := range []prometheus.Collector{f.requests, f.refused, f.panics, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_admin_requests_in_flight",
		Help: "Requests under way, feeds and polls apart; at the limit further ones are sent away.",
	}, func() float64 { return float64(len(f.places)) })} {
		if err := o.Registry.Register(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// class is how a request is bounded.
type class int

const (
	classRequest class = iota // a place, a time
	classImport               // a place; paces itself; so are lines of the audit
	classStream               // feeds and polls: bounded by their own servers
	classProbe                // health, metrics: never refused
)

func classOf(r *http.Request) class {
	path := r.URL.Path
	switch {
	case path == "/v1/import", strings.HasSuffix(path, "/audit") && strings.Contains(r.Header.Get("Accept"), policies.MediaTypeNDJSON):
		return classImport
	case path == pathFeed, strings.HasPrefix(path, pathBundles), strings.HasSuffix(path, "/events"):
		return classStream
	case path == "/health", path == "/ready", path == "/metrics":
		return classProbe
	}
	return classRequest
}

// wrap puts the front before next. Paths that a mux would clean up and redirect go
// to unknown: nobody is redirected without a token.
func (f *front) wrap(next, unknown http.Handler) http.Handler {
	return rest.WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		out := &response{ResponseWriter: w}
		kind := classOf(r)
		// A deadline outlives its request on a connection that is kept alive: so each
		// request sets its own. A writer without deadlines is a test's.
		var readBy, writeBy time.Time
		if kind == classRequest {
			ctx, cancel := context.WithTimeout(r.Context(), f.timeout)
			defer cancel()
			r = r.WithContext(ctx)
			readBy, writeBy = begun.Add(f.timeout), begun.Add(f.timeout+writeGrace)
		}
		control := http.NewResponseController(w)
		_, _ = control.SetReadDeadline(readBy), control.SetWriteDeadline(writeBy)
		defer f.done(out, r, begun, kind)
		defer f.recovered(out, r)
		if kind != classStream {
			f.active.RLock()
			defer f.active.RUnlock()
		}
		if kind == classRequest || kind == classImport {
			select {
			case f.places <- struct{}{}:
				defer func() { <-f.places }()
			default:
				f.refused.Inc()
				rest.WriteProblem(out, rest.Overloaded(r))
				return
			}
		}
		if path.Clean(r.URL.Path) != r.URL.Path {
			unknown.ServeHTTP(out, r)
			return
		}
		next.ServeHTTP(out, r)
	}))
}

// idle waits until no request is under way, streams apart.
func (f *front) idle() {
	f.active.Lock()
	defer f.active.Unlock()
}

// recovered turns a panic into a 500: it is a bug, and the process goes on.
func (f *front) recovered(w *response, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to drop a connection
	}
	f.panics.Inc()
	p := rest.NewProblem(problem.Internal, "The cause is in the server's log.")
	p.TraceID = rest.RequestID(r.Context())
	f.log.ErrorContext(r.Context(), "a request panicked",
		"route", r.Pattern, "trace_id", p.TraceID, "panic", cause, "stack", string(debug.Stack()))
	if w.status == 0 {
		rest.WriteProblem(w, p)
	}
}

// done logs and counts a request. The route stands for the path: paths may hold
// what is no log's business.
func (f *front) done(w *response, r *http.Request, begun time.Time, kind class) {
	route, status := r.Pattern, w.status
	if status == 0 {
		status = http.StatusOK
	}
	if route == "" || strings.HasSuffix(route, "/") {
		route = "none"
	}
	took := time.Since(begun)
	f.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
	level := slog.LevelInfo
	if kind == classProbe || r.URL.Path == pathReport { // which come all the time
		level = slog.LevelDebug
	}
	f.log.LogAttrs(r.Context(), level, "request",
		slog.String("method", r.Method), slog.String("route", route), slog.Int("status", status),
		slog.Int64("bytes", w.bytes), slog.Duration("took", took), slog.String("request_id", rest.RequestID(r.Context())))
}

// response notes the status and the size of an answer.
type response struct {
	http.ResponseWriter

	status int
	bytes  int64
}

// WriteHeader notes the first status; a second one is no one's.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is io.Writer's.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
