package admin

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestPanic: a panic is a 500 that tells nothing, the cause is in the log, and no
// secret is.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registry: prometheus.NewRegistry()}.withDefaults()
	f, err := newFront(o)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/things/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") }) //nolint:forbidigo // what is tested
	h := f.wrap(mux, http.NotFoundHandler())
	r := httptest.NewRequest(http.MethodGet, "/v1/things/secret-path?secret=query", nil)
	r.Header.Set("Authorization", "Bearer ush_secret")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 500, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.NotContains(t, w.Body.String(), "boom")
	id := w.Header().Get("X-Request-ID")
	require.NotEmpty(t, id)
	require.Contains(t, w.Body.String(), id)
	require.Contains(t, log.String(), "boom")
	require.Contains(t, log.String(), id)
	require.Contains(t, log.String(), "GET /v1/things/{id}")
	require.NotContains(t, log.String(), "secret")
}
