package decisions

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// Where the handlers stand in a [http.ServeMux].
const (
	PatternLogs   = "POST /v1/logs"
	PatternStatus = "POST /v1/status"
)

// A batch of events is written at once: this many, or this many bytes.
const (
	batchEvents = 1000
	batchBytes  = 4 << 20
)

// maxReaders is how many uploads are read at once; the others wait. An upload takes
// a few megabytes of memory while it is read.
const maxReaders = 4

// Options configure [Uploads]. Store and Fail are required.
type Options struct {
	Store *store.Store
	// Fail answers a request that err kept from being answered.
	Fail       func(w http.ResponseWriter, r *http.Request, err error)
	Registerer prometheus.Registerer // no metrics if nil
}

// Uploads answers the uploads of OPAs. It does not authenticate: whoever wires it
// does. It may be used from any number of goroutines.
type Uploads struct {
	store   *store.Store
	fail    func(http.ResponseWriter, *http.Request, error)
	metrics *metrics
	readers chan struct{}
}

// New makes the handlers. The error is what Registerer failed with.
func New(o Options) (*Uploads, error) {
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Uploads{store: o.Store, fail: o.Fail, metrics: m, readers: make(chan struct{}, maxReaders)}, nil
}

// Logs answers POST /v1/logs: a JSON array of events, or one event, plain or
// gzipped.
func (u *Uploads) Logs(w http.ResponseWriter, r *http.Request) {
	u.answer(w, r, u.logs)
}

// Status answers POST /v1/status: a JSON object, plain or gzipped.
func (u *Uploads) Status(w http.ResponseWriter, r *http.Request) {
	u.answer(w, r, u.status)
}

func (u *Uploads) answer(w http.ResponseWriter, r *http.Request, take func(context.Context, io.Reader) error) {
	err := u.read(w, r, take)
	if err != nil {
		u.metrics.refused.Inc()
		u.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (u *Uploads) read(w http.ResponseWriter, r *http.Request, take func(context.Context, io.Reader) error) error {
	if r.URL.RawQuery != "" {
		return &policies.MalformedError{Where: "query", Reason: "has a parameter that is not known here"}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &policies.MalformedError{Where: "Content-Type", Reason: "must be application/json"}
	}
	select {
	case u.readers <- struct{}{}:
		defer func() { <-u.readers }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	body := io.Reader(http.MaxBytesReader(w, r.Body, policies.MaxDecisionUploadBytes))
	switch encoding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return bodyError(err)
		}
		body = unpacked
	default:
		return &policies.MalformedError{Where: "Content-Encoding", Reason: "must be gzip, or absent"}
	}
	return take(r.Context(), &bounded{body, policies.MaxDecisionsBytes})
}

// bounded fails when more than left bytes come: a small upload may unpack to a huge
// one.
type bounded struct {
	r    io.Reader
	left int64
}

// Read is io.Reader's.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &policies.TooLargeError{What: "the upload, unpacked,", Limit: policies.MaxDecisionsBytes}
	}
	return n, err
}

// bodyError is a fault of the request, unless a limit or the time ended it.
func bodyError(err error) error {
	var (
		tooLarge  *http.MaxBytesError
		unpacked  *policies.TooLargeError
		malformed *policies.MalformedError
	)
	switch {
	case errors.As(err, &tooLarge):
		return tooLarge
	case errors.As(err, &unpacked):
		return unpacked
	case errors.As(err, &malformed):
		return malformed
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &policies.MalformedError{Reason: "the body ends too soon"}
	}
	return &policies.MalformedError{Reason: "the body is no JSON, or not packed as it says: " + err.Error()}
}

// logs reads events one by one, and keeps them in batches.
func (u *Uploads) logs(ctx context.Context, body io.Reader) error {
	dec := jsontext.NewDecoder(body)
	many := dec.PeekKind() == '['
	if many {
		if _, err := dec.ReadToken(); err != nil {
			return bodyError(err)
		}
	}
	var batch []store.Logged
	bytes := 0
	for many && dec.PeekKind() != ']' || !many && dec.InputOffset() == 0 {
		raw, err := dec.ReadValue()
		if err != nil {
			return bodyError(err)
		}
		if len(raw) > policies.MaxDecisionBytes {
			return &policies.TooLargeError{What: "an event of the decision log", Limit: policies.MaxDecisionBytes}
		}
		logged, err := read(raw)
		if err != nil {
			return bodyError(err)
		}
		batch = append(batch, logged)
		if bytes += len(raw); len(batch) == batchEvents || bytes > batchBytes {
			if err := u.keep(ctx, batch); err != nil {
				return err
			}
			batch, bytes = batch[:0], 0
		}
	}
	if many {
		if _, err := dec.ReadToken(); err != nil {
			return bodyError(err)
		}
	}
	if err := atEnd(dec); err != nil {
		return err
	}
	return u.keep(ctx, batch)
}

func atEnd(dec *jsontext.Decoder) error {
	switch _, err := dec.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return bodyError(err)
	}
	return &policies.MalformedError{Reason: "the body has something after its end"}
}

func (u *Uploads) keep(ctx context.Context, batch []store.Logged) error {
	if len(batch) == 0 {
		return nil
	}
	fresh, err := u.store.LogDecisions(ctx, batch)
	if err != nil {
		return err
	}
	u.metrics.kept.Add(float64(fresh))
	u.metrics.passedOver.Add(float64(len(batch) - fresh))
	return nil
}

// opaStatus is what is read of a status (OPA's UpdateRequestV1).
type opaStatus struct {
	Labels  map[string]jsontext.Value `json:"labels"`
	Bundles map[string]struct {
		ActiveRevision string         `json:"active_revision"`
		Code           jsontext.Value `json:"code"`
	} `json:"bundles"`
}

func (u *Uploads) status(ctx context.Context, body io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(body, policies.MaxDecisionBytes+1))
	if err != nil {
		return bodyError(err)
	}
	if len(raw) > policies.MaxDecisionBytes {
		return &policies.TooLargeError{What: "the status", Limit: policies.MaxDecisionBytes}
	}
	var status opaStatus
	if err := json.Unmarshal(raw, &status); err != nil {
		return policies.Malformed(raw, err)
	}
	id := label(status.Labels, "id")
	if id == "" {
		return &policies.MalformedError{Where: "/labels/id", Reason: "must be the id of the OPA"}
	}
	found := store.OPAStatus{Instance: id, Body: raw}
	for name, b := range status.Bundles {
		if len(b.Code) > 0 && string(b.Code) != `""` && b.Code.Kind() != 'n' {
			found.Errors++
		}
		// Whatever the OPA calls it, usher's bundle is the one with such a revision.
		if _, err := policies.ParseRevision(b.ActiveRevision); err == nil && (found.Revision == "" || name == "usher") {
			found.Revision = b.ActiveRevision
		}
	}
	return u.store.PutOPAStatus(ctx, found)
}
