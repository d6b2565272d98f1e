package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/usher-authz/usher/policies"
)

// Readiness is what GET /ready tells of a process. It has no secrets: /ready is
// open to all.
type Readiness struct {
	Ready bool
	// Reason says why the process is not ready.
	Reason   string
	Mode     string // resident, on-demand, bundle, admin
	Revision policies.Revision
	// Age is how long ago the revision was known to be the platform's latest; nil: it
	// never was.
	Age *time.Duration
}

// Health is what GET /health, /ready and /metrics show.
type Health struct {
	// Ready is asked on each GET /ready.
	Ready func() Readiness
	// Gatherer gives the metrics; nil: there is no /metrics.
	Gatherer prometheus.Gatherer
}

type healthBody struct {
	Status string `json:"status"`
}

// unhealthyBody is an error as OPA's health API has it.
type unhealthyBody struct {
	Error string `json:"error"`
}

type readyBody struct {
	Ready      bool              `json:"ready"`
	Reason     string            `json:"reason,omitempty"`
	Mode       string            `json:"mode,omitempty"`
	Revision   policies.Revision `json:"revision"`
	AgeSeconds *float64          `json:"age_seconds,omitempty"`
}

// Mount adds GET /health (the process runs), /ready (it answers checks: 200, else
// 503) and /metrics to mux, open to all.
func (h Health) Mount(mux *http.ServeMux) {
	mount := func(path string, handler http.Handler) {
		mux.Handle("GET "+path, RequestID(handler))
		mux.Handle(path, RequestID(methodNotAllowed(http.MethodGet)))
	}
	mount("/health", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// OPA's ?bundles and ?plugins ask whether there is something to answer from.
		if (flag(r.URL, "bundles") || flag(r.URL, "plugins")) && !h.Ready().Ready {
			writeJSON(w, http.StatusInternalServerError, unhealthyBody{Error: "not ready: " + h.Ready().Reason})
			return
		}
		writeJSON(w, http.StatusOK, healthBody{Status: "ok"})
	}))
	mount("/ready", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ready, status := h.Ready(), http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
		body := readyBody{Ready: ready.Ready, Reason: ready.Reason, Mode: ready.Mode, Revision: ready.Revision}
		if ready.Age != nil {
			body.AgeSeconds = new(ready.Age.Seconds())
		}
		writeJSON(w, status, body)
	}))
	if h.Gatherer != nil {
		mount("/metrics", promhttp.HandlerFor(h.Gatherer, promhttp.HandlerOpts{}))
	}
}
