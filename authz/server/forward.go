package server

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/policies"
)

// PathForward is where reverse proxies ask (nginx auth_request, Caddy and Traefik
// forward_auth).
const PathForward = "/forward-auth"

// The headers in which proxies say what the original request was: nginx by
// configuration, Caddy and Traefik of themselves.
var forwardHeaders = [...]struct{ method, target string }{
	{"X-Original-Method", "X-Original-Uri"},
	{"X-Forwarded-Method", "X-Forwarded-Uri"},
}

// forward answers a proxy: 200 lets the request through, 401 and 403 do not.
func (a *API) forward(w http.ResponseWriter, r *http.Request) error {
	asked, err := original(r.Header)
	if err != nil {
		return refuseForward(w, err)
	}
	match, err := a.routes.Match(asked)
	if err != nil {
		return refuseForward(w, err)
	}
	if match.Public {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	least, err := DemandedBy(r.Header)
	if err != nil {
		return err
	}
	match.Question.Request = &authz.Request{Context: match.Context, ID: requestID(r), RemoteAddr: r.RemoteAddr}
	decision, err := a.Ask(r.Context(), least, match.Question)
	if err != nil {
		return err
	}
	describe(w.Header(), &match.Question, &decision)
	if !decision.Allow {
		writeDenial(w, http.StatusForbidden, routes.Denial(&match.Question, &decision))
		return nil
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// describe adds the headers that a proxy may hand on.
func describe(h http.Header, q *authz.Question, d *authz.Decision) {
	for name, value := range Describe(q, d) {
		h.Set(name, value)
	}
}

// Describe is what a door for proxies says of a decision in headers. Names that could
// break a header are left out: ids never do.
func Describe(q *authz.Question, d *authz.Decision) map[string]string {
	headers := map[string]string{
		"Usher-Reason":   string(d.Reason),
		"Usher-Revision": strconv.FormatUint(uint64(d.Revision), 10),
	}
	if d.Reason != policies.ReasonUnknownSubject {
		headers["Usher-Subject"] = q.Subject
	}
	if d.Owner != "" {
		headers["Usher-Owner"] = string(d.Owner)
	}
	return headers
}

// original is the request that the proxy asks about. Headers of two kinds that do not
// agree could be the client's: which the proxy meant is then not known.
func original(h http.Header) (*routes.Request, error) {
	asked := &routes.Request{Header: h}
	for _, names := range forwardHeaders {
		method, hasMethod := h[names.method]
		target, hasTarget := h[names.target]
		if !hasMethod && !hasTarget {
			continue
		}
		if len(method) != 1 || len(target) != 1 || method[0] == "" || target[0] == "" ||
			asked.Method != "" && (asked.Method != method[0] || asked.Target != target[0]) {
			return nil, &routes.DeniedError{
				Status: http.StatusForbidden,
				Reason: "The headers X-Original-Method and -URI, or X-Forwarded-Method and -Uri, must name the original request, once and in one way.",
			}
		}
		asked.Method, asked.Target = method[0], target[0]
	}
	if asked.Method == "" {
		return nil, &policies.MalformedError{
			Where:  "X-Original-Method",
			Reason: "the proxy must say what the original request was, as X-Original-Method and X-Original-URI or X-Forwarded-Method and X-Forwarded-Uri",
		}
	}
	return asked, nil
}

func refuseForward(w http.ResponseWriter, err error) error {
	var denied *routes.DeniedError
	if !errors.As(err, &denied) {
		return err
	}
	problem.Problem{Status: denied.Status}.Head(w.Header())
	writeDenial(w, denied.Status, denied.Reason)
	return nil
}

// writeDenial answers with a text that a person understands.
func writeDenial(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.ToValidUTF8(text, "\uFFFD")) //nolint:gosec // plain text, and said to be
}
