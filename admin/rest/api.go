package rest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/events"
	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// DefaultMinRevisionWait is how long a GET waits for its Usher-Min-Revision.
const DefaultMinRevisionWait = 2 * time.Second

// Options are what an [API] needs. Store, Engine and Authenticator are required.
type Options struct {
	Store         *store.Store
	Engine        *authz.Engine
	Authenticator *server.Authenticator
	// Identities verifies the JWTs of accounts; nil: none are taken.
	Identities *identity.Verifier
	Logger     *slog.Logger // default: discards
	// Version is the one that the OpenAPI document names; default "dev".
	Version string
	// MinRevisionWait is [DefaultMinRevisionWait] if 0.
	MinRevisionWait time.Duration
	// ReadLog takes reads of other people's permissions; nil: nothing does.
	ReadLog ReadLog
	// Registrar registers accounts for holders of links; nil: nobody does.
	Registrar Registrar
	// Registerer takes the metrics; nil: nobody does.
	Registerer prometheus.Registerer
}

// API is the REST API. It is a http.Handler for its operations, all under /v1,
// and for /openapi.json and /docs.
type API struct {
	huma.API

	mux             *http.ServeMux
	store           *store.Store
	engine          *authz.Engine
	log             *slog.Logger
	minRevisionWait time.Duration
	auth            *server.Authenticator
	identities      *identity.Verifier // nil: no JWTs
	registrar       Registrar
	acknowledged    atomic.Uint64 // the greatest revision that an answer has named
	document        []byte        // the OpenAPI document
	imports         chan struct{} // bounds imports under way
	followers       chan struct{} // bounds those who follow events
	hub             *events.Hub
	readLog         ReadLog // nil: reads are not written down
	shapes          difference.Shapes
	// decisionFollowers bounds those who follow decisions.
	decisionFollowers chan struct{}
	testing           chan struct{} // bounds tests of guardrails under way
}

// New makes the API. An error says that the OpenAPI document cannot be made,
// which is a bug, or that metrics are registered already.
func New(o Options) (*API, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
	}
	mux := http.NewServeMux()
	config := huma.Config{
		OpenAPI: openAPI(o),
		// huma looks for application/problem+json under json.
		Formats: map[string]huma.Format{
			mediaJSON: {Marshal: marshal, Unmarshal: decode}, "json": {Marshal: marshal, Unmarshal: decode},
			policies.MediaTypeNDJSON: {Marshal: marshalLines, Unmarshal: decode},
		},
		DefaultFormat: mediaJSON,
	}
	a := &API{
		API: humago.New(mux, config), mux: mux, store: o.Store, engine: o.Engine, log: o.Logger,
		minRevisionWait: o.MinRevisionWait, auth: o.Authenticator, identities: o.Identities, registrar: o.Registrar,
		imports: make(chan struct{}, maxImports), followers: make(chan struct{}, maxFollowers),
		decisionFollowers: make(chan struct{}, maxDecisionFollowers), testing: make(chan struct{}, 1),
		hub: events.NewHub(hubSource{o.Store, o.Engine}), readLog: o.ReadLog,
	}
	if err := a.measure(o.Registerer); err != nil {
		return nil, err
	}
	a.operations()
	var err error
	if a.document, err = a.finish(); err != nil {
		return nil, err
	}
	page, err := newDocs(a.OpenAPI())
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /openapi.json", a.serveDocument)
	mux.Handle("GET /docs", page)
	invitations, err := newInvitationPage(a)
	if err != nil {
		return nil, err
	}
	invitations.mount(mux)
	return a, nil
}

// operations registers every operation, in the order of api.md.
func (a *API) operations() {
	a.accountOperations()
	a.groupOperations()
	a.environmentOperations()
	a.importOperations()
	a.policyOperations()
	a.guardrailOperations()
	a.roleOperations()
	a.memberOperations()
	a.grantOperations()
	a.collaboratorOperations()
	a.collaborationOperations()
	a.invitationOperations()
	a.auditOperations()
	a.readOperations()
	a.diffOperations()
	a.eventOperations()
	a.decisionOperations()
	a.fleetOperations()
}

// ServeHTTP answers; what is no operation gets a 404 or a 405 problem. Paths that
// a mux would clean up and redirect are none.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.ServeUnknown(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// ServeUnknown answers for paths and methods that no operation has: not before
// the caller has shown credentials, so that nothing but the open list answers without.
func (a *API) ServeUnknown(w http.ResponseWriter, r *http.Request) {
	if err := a.recognize(r); err != nil {
		WriteProblem(w, FromError(err, false))
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		WriteProblem(w, NewProblem(problem.NotFound, "There is no such path."))
		return
	}
	p := NewProblem(problem.Method, "The path has other methods.")
	p.header = http.Header{"Allow": allowed}
	WriteProblem(w, p)
}

// marshal writes an answer in one piece, so that an answer that cannot be
// encoded has not begun, and a client that went away is no error.
func marshal(w io.Writer, v any) error {
	var body bytes.Buffer
	if err := json.MarshalWrite(&body, v, jsontext.AllowInvalidUTF8(true)); err != nil {
		return err
	}
	_, _ = w.Write(body.Bytes())
	return nil
}

// marshalLines writes an answer as lines if it has such a form, and else as one line.
// An answer that breaks off does so visibly: the connection is cut.
func marshalLines(w io.Writer, v any) error {
	l, ok := v.(interface {
		writeLines(w io.Writer) (bool, error)
	})
	if ok {
		if written, err := l.writeLines(w); err != nil {
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's own way to drop a connection
		} else if written {
			return nil
		}
	}
	return marshal(w, v)
}

// problem makes the problem of a request's error, logs what the caller must not
// see, and adds the present revision to the answers of refused writes.
func (a *API) problem(ctx context.Context, r *request, err error) *Problem {
	write := r != nil && r.op.writes()
	p := FromError(err, write)
	switch {
	case p.Type == problem.Internal:
		p.TraceID = RequestID(ctx)
		operation := ""
		if r != nil {
			operation = r.op.id
		}
		a.log.ErrorContext(ctx, "request failed", "operation", operation, "trace_id", p.TraceID, "error", err)
	case p.Status == http.StatusServiceUnavailable:
		a.log.WarnContext(ctx, "request not served", "type", string(p.Type), "error", err)
	case write && (p.Status == http.StatusConflict || p.Status == http.StatusPreconditionFailed):
		if head, err := a.store.Head(ctx); err == nil {
			a.acknowledge(head.Revision)
			p.set(headerRevision, head.Revision.String())
		}
	}
	return p
}

// Fail answers a request of another handler of the admin server with err, as
// operations are answered.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) {
	WriteProblem(w, a.problem(r.Context(), nil, err))
}

// RefuseActAs answers requests that act as an account with 400: next acts as
// nobody (api.md, Who calls).
func RefuseActAs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values(headerActAs)) > 0 {
			WriteProblem(w, NewProblem(problem.ActAs, headerActAs+" cannot be used here."))
			return
		}
		next.ServeHTTP(w, r)
	})
}
