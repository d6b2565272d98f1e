package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// shown is the answer to a read of one object.
type shown[T any] struct {
	ETag string `header:"ETag" doc:"Changes with the object; equal to etag in the body."` //nolint:tagliatelle // HTTP's own name
	Body T
}

func show[T any](etag string, body T) *shown[T] { return &shown[T]{ETag: etag, Body: body} }

// written is the answer to a write that leaves an object.
type written[T any] struct {
	Status   int
	ETag     string `header:"ETag" doc:"Changes with the object; equal to etag in the body."` //nolint:tagliatelle // HTTP's own name
	Revision string `header:"Usher-Revision"`
	Body     T
}

// wrote answers a PUT (201 if new, else 200) or a write of another kind (its
// usual status).
func wrote[V, T any](a *API, r *request, result store.Result[V], body T) *written[T] {
	a.acknowledge(result.Revision)
	r.trial, r.tried = result.Trial, result.Revision
	status := r.op.status
	switch {
	case r.op.method == http.MethodPut && result.Created:
		status = http.StatusCreated
	case status == 0:
		status = http.StatusOK
	}
	return &written[T]{Status: status, ETag: result.ETag, Revision: result.Revision.String(), Body: body}
}

// gone is the answer to a DELETE.
type gone struct {
	Revision string `header:"Usher-Revision"`
}

func deleted[V any](a *API, r *request, result store.Result[V]) *gone {
	a.acknowledge(result.Revision)
	r.trial, r.tried = result.Trial, result.Revision
	return &gone{Revision: result.Revision.String()}
}

// page is one page of a list.
type page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Give it as cursor for the next page; absent on the last."`
}

type listed[T any] struct {
	Body page[T]
}

func list[V, T any](l store.List[V], view func(V) T) *listed[T] {
	out := &listed[T]{Body: page[T]{Items: make([]T, len(l.Items)), NextCursor: l.NextCursor}}
	for i, item := range l.Items {
		out.Body.Items[i] = view(item)
	}
	return out
}

// PageQuery are the parameters of every list.
type PageQuery struct {
	Limit  wholeNumber `query:"limit" doc:"Most items of the page; beyond 1000 it is 1000." example:"100"`
	Cursor string      `query:"cursor" doc:"The next_cursor of the page before." maxLength:"1024"`
}

func (q PageQuery) page() (store.Page, error) {
	limit, err := q.Limit.value("limit", policies.DefaultPageLimit)
	if err != nil {
		return store.Page{}, err
	}
	if limit < 1 {
		return store.Page{}, invalid("limit", "must be at least 1")
	}
	if len(q.Cursor) > policies.MaxCursorLength {
		return store.Page{}, &policies.MalformedError{Where: "cursor", Reason: "is none of this list's"}
	}
	return store.Page{Limit: min(limit, policies.MaxPageLimit), Cursor: q.Cursor}, nil
}

// value is the number that s writes, or absent if it is empty.
func (n wholeNumber) value(name string, absent int) (int, error) {
	if n == "" {
		return absent, nil
	}
	value, err := strconv.Atoi(string(n))
	if err != nil {
		return 0, &policies.MalformedError{Where: name, Reason: "must be a whole number"}
	}
	return value, nil
}

func (b boolean) value(name string) (bool, error) {
	switch b {
	case "":
		return false, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, &policies.MalformedError{Where: name, Reason: "must be true or false"}
}

func (t timeText) value(name string) (time.Time, error) {
	if t == "" {
		return time.Time{}, nil
	}
	var value time.Time
	if err := value.UnmarshalText([]byte(t)); err != nil {
		return time.Time{}, &policies.MalformedError{Where: name, Reason: "must be a time as RFC 3339 writes it"}
	}
	return value.UTC(), nil
}

// words splits a comma-separated parameter.
func words[T ~string](s string) []T {
	var all []T
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, T(word))
		}
	}
	return all
}

// value is *p, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
