package server

import (
	"crypto/rand"
	"errors"
	"net/http"
	"runtime/debug"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// RequestID makes every answer of next carry the X-Request-ID of its request, if it
// had one, as it was sent (AuthZEN, Request Identification).
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := r.Header["X-Request-Id"]; ok {
			w.Header()["X-Request-Id"] = id[:1]
		}
		next.ServeHTTP(w, r)
	})
}

// methodNotAllowed answers on a path of which only allowed is known.
func methodNotAllowed(allowed string) http.HandlerFunc {
	if allowed == http.MethodGet {
		allowed = "GET, HEAD"
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allowed)
		problem.Problem{Type: problem.Method, Status: http.StatusMethodNotAllowed, Detail: "use " + allowed}.Write(w)
	}
}

// NotFound answers on paths that are none.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	problem.Problem{Type: problem.NotFound, Status: http.StatusNotFound, Detail: "there is nothing at this path"}.Write(w)
}

// admit decides whether the request is looked at.
func (a *API) admit(r *http.Request, e endpoint, auth Auth) error {
	if auth != AuthNone {
		token, err := a.auth.Authenticate(r)
		if err != nil {
			return err
		}
		if err := Allow(token, policies.ScopeChecks); err != nil {
			return err
		}
	}
	if e == endpointForward {
		return nil // the headers are those of the original request, too
	}
	if _, ok := r.Header["Usher-Act-As"]; ok {
		return actAsError{}
	}
	if e == endpointData {
		return checkEncoding(r.Header) // OPA takes JSON under any name
	}
	return checkContent(r.Header)
}

// fail answers with err, and logs what the caller is not told.
func (a *API) fail(w http.ResponseWriter, r *http.Request, e endpoint, err error) {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		p.TraceID = rand.Text()
		a.logger.ErrorContext(r.Context(), "a check failed", "endpoint", e, "trace_id", p.TraceID, "error", err)
	}
	a.refuse(w, e, p)
}

// refuse answers with p, in the form that the endpoint has.
func (a *API) refuse(w http.ResponseWriter, e endpoint, p problem.Problem) {
	a.metrics.refuse(e, p.Status)
	if e == endpointData {
		writeDataError(w, p)
		return
	}
	p.Write(w)
}

// recovered turns a panic into a 500: it is a bug, and never an allow.
func (a *API) recovered(w http.ResponseWriter, r *http.Request, e endpoint) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to drop a connection
	}
	p := problemOf(nil)
	p.TraceID = rand.Text()
	a.logger.ErrorContext(r.Context(), "a check panicked",
		"endpoint", e, "trace_id", p.TraceID, "panic", cause, "stack", string(debug.Stack()))
	a.refuse(w, e, p)
}

// requestID is what the caller calls r.
func requestID(r *http.Request) string {
	if id, ok := r.Header["X-Request-Id"]; ok {
		return id[0]
	}
	return ""
}
