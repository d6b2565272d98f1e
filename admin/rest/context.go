package rest

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/usher-authz/usher/policies"
)

type requestIDKey struct{}

// WithRequestID gives every request an id: the caller's X-Request-ID if it is
// one, else a new one. It comes back on every answer.
func WithRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(headerRequestID)
		if !goodRequestID(id) {
			id = rand.Text()
		}
		w.Header().Set(headerRequestID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// RequestID is the id of the request that ctx belongs to.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func goodRequestID(id string) bool {
	if id == "" || len(id) > policies.MaxIDLength {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// uniqueRequestID is the request's id with something of our own: callers may
// send one id twice, and the store finds a commit again by it.
func uniqueRequestID(ctx context.Context) string {
	return RequestID(ctx) + "/" + rand.Text()[:12]
}
