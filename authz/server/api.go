package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/routes"
)

// The paths of the check API (AuthZEN, Transport).
const (
	PathEvaluation  = "/access/v1/evaluation"
	PathEvaluations = "/access/v1/evaluations"
	PathSubjects    = "/access/v1/search/subject"
	PathResources   = "/access/v1/search/resource"
	PathActions     = "/access/v1/search/action"
	PathMetadata    = "/.well-known/authzen-configuration"
)

// API is the check API. Any number of listeners may serve it.
type API struct {
	decider  authz.Decider
	searcher authz.Searcher
	routes   *routes.Routes // nil: no proxy asks
	auth     *Authenticator // nil: no tokens are known
	logger   *slog.Logger
	metrics  *metrics
	decoders *sync.Pool
}

// New makes the check API. The error is that of [Options.Validate], or says which
// metric is registered already.
func New(o Options) (*API, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the check API: %w", err)
	}
	a := &API{decider: o.Decider, searcher: o.Searcher, routes: o.Routes, logger: o.Logger, metrics: m, decoders: newDecoders()}
	if o.Tokens != nil {
		a.auth = NewAuthenticator(o.Tokens, o.Clock)
	}
	return a, nil
}

// Mount adds the endpoints of the check API to mux, as l has them; every one of
// them answers with the request's X-Request-ID. The error is that of
// [Listener.Validate], or says that l asks for tokens and the API knows none.
func (a *API) Mount(mux *http.ServeMux, l Listener) error {
	if err := l.Validate(); err != nil {
		return err
	}
	if l.Auth == "" {
		l.Auth = AuthToken
	}
	if l.Auth == AuthToken && a.auth == nil {
		return fmt.Errorf("a listener asks for tokens, and there is nobody to know them")
	}
	mount := func(method, path string, handler http.HandlerFunc) {
		mux.Handle(method+" "+path, RequestID(handler))
		mux.Handle(path, RequestID(methodNotAllowed(method)))
	}
	mount(http.MethodPost, PathEvaluation, a.handle(endpointEvaluation, l.Auth, a.evaluation))
	mount(http.MethodPost, PathEvaluations, a.handle(endpointEvaluations, l.Auth, a.evaluations))
	mount(http.MethodPost, PathSubjects, a.handle(endpointSubjects, l.Auth, a.searchOf(authz.SoughtSubjects)))
	mount(http.MethodPost, PathResources, a.handle(endpointResources, l.Auth, a.searchOf(authz.SoughtResources)))
	mount(http.MethodPost, PathActions, a.handle(endpointActions, l.Auth, a.searchOf(authz.SoughtActions)))
	// One pattern for both methods: more would not tell the paths apart that clients
	// escape.
	answer, refuse := a.handle(endpointData, l.Auth, a.data), dataMethods
	mux.Handle(PathData, RequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Method == http.MethodGet {
			answer(w, r)
			return
		}
		refuse(w, r)
	})))
	if a.routes != nil { // whatever the method of the original request, some proxies use it here
		mux.Handle(PathForward, RequestID(a.handle(endpointForward, l.Auth, a.forward)))
	}
	for _, path := range metadataPaths(l.PublicURL) {
		mount(http.MethodGet, path, metadata(l.PublicURL))
	}
	return nil
}

// handle wraps what an endpoint does into what all of them do.
func (a *API) handle(e endpoint, auth Auth, answer func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	seconds := a.metrics.seconds[e]
	return func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		a.metrics.inFlight.Inc()
		defer a.metrics.inFlight.Dec()
		defer a.recovered(w, r, e)
		err := a.admit(r, e, auth)
		if err == nil {
			err = answer(w, r)
		}
		if err != nil {
			a.fail(w, r, e, err)
		}
		seconds.Observe(time.Since(begun).Seconds())
	}
}
