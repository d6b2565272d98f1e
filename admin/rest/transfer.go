package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagImport = "Import and export"

// Limits of imports. A body may come slowly as long as it comes.
const (
	maxImports      = 2                // under way at once; a further one is sent away
	importReadPause = 30 * time.Second // the longest pause within a body
	maxKept         = policies.MaxBodyBytes
)

// importAnswer is what went in, and what did not.
type importAnswer struct {
	Imported []policies.AccountID `json:"imported" doc:"The accounts whose documents went in."`
	Errors   []Fault              `json:"errors" doc:"What did not: line, account, and what is wrong."`
}

func (a *API) importOperations() {
	register(a, spec{
		id: "import", method: http.MethodPost, path: "/import", tag: tagImport, summary: "Import account documents",
		description: "Each document replaces that account's whole collaboration, all of it or nothing. The body is one document or an array of them " +
			"(`application/json`), or one a line (`application/x-ndjson`). Accounts named in `members` that are not known are made, known ones are never " +
			"changed. No mail is sent. A document that stands already changes nothing, so that an import may be repeated.",
		scope: policies.ScopeResources, who: whoAlone, noMatch: true,
		stream: []string{policies.MediaTypeJSON, policies.MediaTypeNDJSON},
	}, a.importDocuments)
	register(a, spec{
		id: "export-account", method: http.MethodGet, read: true, path: "/accounts/{account}/export", tag: tagImport, summary: "Export an account",
		description: "The document that an import takes. `removed` members are not in it.",
		scope:       policies.ScopeResources, who: whoOwner,
	}, a.exportAccount)
}

// documentImport describes the body, which this package reads as it comes.
func (a *API) documentImport(o *huma.Operation) {
	document := documentBody{}.Schema(a.OpenAPI().Components.Schemas)
	o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		policies.MediaTypeJSON:   {Schema: &huma.Schema{OneOf: []*huma.Schema{document, {Type: huma.TypeArray, Items: document}}}},
		policies.MediaTypeNDJSON: {Schema: document},
	}}
}

func (a *API) importDocuments(ctx context.Context, r *request, _ *none, _ *none) (*written[importAnswer], error) {
	select {
	case a.imports <- struct{}{}:
		defer func() { <-a.imports }()
	default:
		return nil, NewProblem(problemTooMany, "Other imports are under way.")
	}
	// The whole import has no deadline of its own, each pause within its body has.
	control := http.NewResponseController(r.w)
	body := &pacedReader{from: http.MaxBytesReader(r.w, r.Body, policies.MaxImportBytes), control: control}
	kept := &prefix{from: body}
	in := &imported{}
	call := r.caller.call()
	call.IdempotencyKey = "" // a repetition changes nothing anyway
	// With the catalogue, so that all that is wrong comes at once; the store holds
	// the documents against the one in force under the lock.
	documents := policies.ReadDocuments(kept, r.Header.Get("Content-Type"),
		policies.WithCatalogue(a.engine.State().Policy().Catalogue()))
	report, err := a.store.Import(ctx, call, in.note(documents), nil)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Now().Add(importReadPause))
	if err != nil {
		return nil, err
	}
	answer := importAnswer{Imported: in.accounts(report.Errors), Errors: []Fault{}}
	for _, e := range report.Errors {
		answer.Errors = append(answer.Errors, Fault{Line: e.Line, Account: e.Account, Errors: e.Errors})
	}
	if len(answer.Imported) > 0 {
		return wrote(a, r, store.Result[struct{}]{Revision: report.Revision}, answer), nil
	}
	a.acknowledge(report.Revision)
	return nil, refusedImport(r, in, kept, answer, report.Revision)
}

// refusedImport is the answer when nothing went in: 413 and 400 if the body as a
// whole is at fault, else 422 with what is wrong in each document.
func refusedImport(r *request, in *imported, kept *prefix, answer importAnswer, revision policies.Revision) error {
	var tooLarge *http.MaxBytesError
	if errors.As(in.last, &tooLarge) {
		return tooLarge
	}
	if in.failed != nil {
		return bodyError(in.failed)
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var malformed *policies.MalformedError
	if media == policies.MediaTypeJSON && in.count == 1 && errors.As(in.last, &malformed) && kept.broken() {
		return malformed
	}
	detail := "Every document was refused."
	if in.count == 0 {
		detail = "There is no document in the body."
	}
	p := NewProblem(problemImport, detail)
	p.Errors, p.Imported = answer.Errors, answer.Imported
	p.set(headerRevision, revision.String())
	return p
}

// imported notes what an import reads.
type imported struct {
	lines  []importLine // of well-formed documents
	count  int          // of all
	last   error        // of the last item
	failed error        // what the reader itself failed with
}

type importLine struct {
	line    int
	account policies.AccountID
}

func (in *imported) note(documents iter.Seq[policies.DocumentLine]) iter.Seq[policies.DocumentLine] {
	return func(yield func(policies.DocumentLine) bool) {
		for d := range documents {
			in.count++
			in.last = d.Err
			if d.Err == nil {
				in.lines = append(in.lines, importLine{d.Line, d.Document.Account.ID})
			} else if !isDocumentFault(d.Err) {
				in.failed = d.Err
			}
			if !yield(d) {
				return
			}
		}
	}
}

func isDocumentFault(err error) bool {
	var (
		malformed *policies.MalformedError
		invalid   *policies.InvalidError
		tooLarge  *policies.TooLargeError
	)
	return errors.As(err, &malformed) || errors.As(err, &invalid) || errors.As(err, &tooLarge)
}

// accounts are those whose documents the store did not refuse.
func (in *imported) accounts(refused []store.ImportError) []policies.AccountID {
	bad := make(map[int]bool, len(refused))
	for _, e := range refused {
		bad[e.Line] = true
	}
	accounts := []policies.AccountID{}
	for _, l := range in.lines {
		if !bad[l.line] {
			accounts = append(accounts, l.account)
		}
	}
	return accounts
}

// pacedReader gives each read a deadline of its own.
type pacedReader struct {
	from    io.Reader
	control *http.ResponseController
}

// Read is io.Reader's.
func (p *pacedReader) Read(b []byte) (int, error) {
	deadline := time.Now().Add(importReadPause)
	_ = p.control.SetReadDeadline(deadline) // a writer without deadlines is a test's
	_ = p.control.SetWriteDeadline(deadline.Add(importReadPause))
	n, err := p.from.Read(b)
	if err != nil {
		// From here on net/http watches the connection by reading it, and takes a
		// deadline for the client's end: the import goes on for as long as it takes.
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// prefix keeps the beginning of what is read through it.
type prefix struct {
	from io.Reader
	kept bytes.Buffer
	more bool
}

// Read is io.Reader's.
func (p *prefix) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if room := maxKept - p.kept.Len(); n <= room {
		p.kept.Write(b[:n])
	} else {
		p.kept.Write(b[:room])
		p.more = true
	}
	return n, err
}

// broken tells whether what was read is not even JSON; of a long body it does
// not know.
func (p *prefix) broken() bool {
	if p.more {
		return false
	}
	_, _ = io.CopyN(io.Discard, p, maxKept) // what was not read after a fault
	value := jsontext.Value(p.kept.Bytes())
	return !p.more && !value.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// documentBody is an account document as it is written out; what it may hold is
// described by policies.Document.
type documentBody struct{ policies.Document }

// MarshalJSONTo writes the canonical form.
func (d documentBody) MarshalJSONTo(e *jsontext.Encoder) error {
	return json.MarshalEncode(e, d.Normalize())
}

func (a *API) exportAccount(ctx context.Context, _ *request, p *AccountPath, _ *none) (*shown[documentBody], error) {
	item, err := a.store.Export(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, documentBody{item.Value}), nil
}
