package sidecar_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/sidecar"
)

// TestRoutesFile: a file of routes is read anew when it changes; one that is broken or
// gone is refused, and the last good routes stay in force.
func TestRoutesFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bundle, path := filepath.Join(dir, "b"), filepath.Join(dir, "routes.yaml")
	write(t, bundle, bundleOf(t, 3, company(t)))
	_, err := sidecar.New(sidecar.Options{Bundle: bundle, Listen: "127.0.0.1:0", RoutesFile: path})
	require.ErrorContains(t, err, "routes.yaml")
	const one, two = `routes: [{path: /one, public: true}]`, `routes: [{path: /two, public: true}, {path: /three, public: true}]`
	write(t, path, []byte(one))
	s := start(t, sidecar.Options{Bundle: bundle, Listen: "127.0.0.1:0", RoutesFile: path})
	caller := call(t, s.URL(), nil)
	client := &http.Client{Timeout: soon}
	lets := func(target string) bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/forward-auth", http.NoBody)
		require.NoError(t, err)
		r.Header.Set("X-Original-Method", "GET")
		r.Header.Set("X-Original-Uri", target)
		response, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode == http.StatusOK
	}
	failed := func() int { return counter(t, caller, "usher_sidecar_routes_failed_total") }
	require.True(t, lets("/one"))
	require.False(t, lets("/two"))

	write(t, path, []byte(`routes: [{path: two, public: true}]`))
	eventually(t, func() bool { return failed() > 0 }, "the broken file is looked at")
	require.True(t, lets("/one"))
	require.NoError(t, os.Remove(path))
	before := failed()
	eventually(t, func() bool { return failed() > before }, "the missing file is looked for")
	require.True(t, lets("/one"))

	write(t, path, []byte(two))
	eventually(t, func() bool { return lets("/two") }, "the new routes are in force")
	require.False(t, lets("/one"))
	require.Equal(t, 1, counter(t, caller, "usher_sidecar_routes_applied_total"))
}
