package sidecar_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/signing"
)

// write replaces a file as a careful program does: by rename.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", content, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// TestBundleVectors: the engine from a bundle alone answers every vector, on TCP
// and on a Unix socket, without tokens.
func TestBundleVectors(t *testing.T) {
	t.Parallel()
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	for _, vector := range vectors {
		t.Run(vector.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "b"), bundleOf(t, 3, vector.Document))
			s := start(t, sidecar.Options{Bundle: filepath.Join(dir, "b"), Listen: "127.0.0.1:0", Socket: filepath.Join(dir, "s")})
			for _, caller := range []caller{call(t, s.URL(), nil), call(t, "http://usher", bySocket(filepath.Join(dir, "s")))} {
				status, _ := caller.status(t, "/ready")
				require.Equal(t, http.StatusOK, status, "a file is read before Start returns")
				for _, check := range vector.Checks {
					status, got := caller.check(t, string(check.Subject), string(check.Action), string(check.Resource.Type), check.Resource.ID)
					require.Equal(t, http.StatusOK, status)
					require.Equal(t, check.Decision, got.Decision, "%+v", check)
					require.Equal(t, check.Reason, got.Context.Reason, "%+v", check)
					require.Equal(t, check.Level, got.Context.Level, "%+v", check)
					require.True(t, slices.Equal(check.Roles, got.Context.Roles), "%+v", check)
					require.True(t, slices.Equal(check.Policies, got.Context.Policies), "%+v", check)
					require.Equal(t, policies.Revision(3), got.Context.Revision)
				}
			}
		})
	}
}

// TestBundleGuardrails: guardrails come with the bundle, and go with the next.
func TestBundleGuardrails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	guarded, err := policyInForce(t).WithGuardrails(map[string]string{
		"usher/guardrails/x.rego": "package usher.guardrails\n\ndeny contains \"closed\"\n",
	})
	require.NoError(t, err)
	write(t, path, bundleUnder(t, guarded, 3, company(t)))
	s := start(t, sidecar.Options{Bundle: path, BundleInterval: 5 * time.Millisecond})
	caller := call(t, s.URL(), nil)
	_, got := caller.view(t)
	require.False(t, got.Decision)
	require.Equal(t, policies.ReasonGuardrail, got.Context.Reason)
	write(t, path, bundleOf(t, 4, company(t)))
	eventually(t, func() bool { _, got := caller.view(t); return got.Decision }, "the next bundle has none")
}

// TestBundleFile: a new file is taken up; one that is broken, older or of nothing
// is not, and the last good one stays in force.
func TestBundleFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	write(t, path, bundleOf(t, 3, company(t)))
	s := start(t, sidecar.Options{Bundle: path, BundleInterval: 5 * time.Millisecond})
	caller := call(t, s.URL(), nil)
	_, got := caller.view(t)
	require.True(t, got.Decision)

	failed := func() int { return counter(t, caller, "usher_sidecar_bundles_failed_total") }
	good := bundleOf(t, 4, company(t))
	for _, bad := range [][]byte{nil, []byte("no bundle"), good[:len(good)/2], bundleOf(t, 2, company(t))} {
		before := failed()
		write(t, path, bad)
		eventually(t, func() bool { return failed() > before }, "the bad bundle is looked at")
		_, got := caller.view(t)
		require.True(t, got.Decision)
		require.Equal(t, policies.Revision(3), got.Context.Revision)
	}
	changed := company(t)
	changed.Members[0].Status = policies.StatusSuspended
	write(t, path, bundleOf(t, 5, changed))
	eventually(t, func() bool { _, got := caller.view(t); return got.Context.Revision == 5 }, "the new bundle is in force")
	_, got = caller.view(t)
	require.Equal(t, policies.ReasonCollaborationSuspended, got.Context.Reason)
	require.NoError(t, os.Remove(path))
	before := failed()
	eventually(t, func() bool { return failed() > before }, "the missing bundle is looked for")
	_, got = caller.view(t)
	require.Equal(t, policies.Revision(5), got.Context.Revision)
}

// TestSignedBundle: with a key to verify by, the sidecar takes what that key signed.
func TestSignedBundle(t *testing.T) {
	t.Parallel()
	key, err := signing.Generate()
	require.NoError(t, err)
	verifier, err := signing.NewVerifier(key.Public())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	write(t, path, bundleOf(t, 3, company(t)))
	unsigned, err := sidecar.New(sidecar.Options{Bundle: path, Verifier: verifier, NoListener: true})
	require.NoError(t, err)
	require.ErrorContains(t, unsigned.Start(t.Context()), "the signature of the bundle: there is none")
	stop(t, unsigned)
	contents, err := policies.ReadBundle(bytes.NewReader(bundleOf(t, 3, company(t))))
	require.NoError(t, err)
	var signed bytes.Buffer
	require.NoError(t, policies.WriteSignedBundle(&signed, contents, key))
	write(t, path, signed.Bytes())
	s := start(t, sidecar.Options{Bundle: path, Verifier: verifier})
	_, got := call(t, s.URL(), nil).view(t)
	require.True(t, got.Decision)
}

// TestNoBundleFile: a wrong name is an error of Start, and leaves nothing behind.
func TestNoBundleFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken"), []byte("x"), 0o600))
	for name, want := range map[string]string{"nothing": "no such file", "broken": "read the bundle"} {
		s, err := sidecar.New(sidecar.Options{Bundle: filepath.Join(dir, name), Listen: "127.0.0.1:0"})
		require.NoError(t, err)
		require.ErrorContains(t, s.Start(t.Context()), want)
		require.NoError(t, s.Stop(t.Context()))
	}
}

// TestBundleURL: a bundle by HTTP, with the token, ETag and long polling of stock
// OPA; the server may come later and go again.
func TestBundleURL(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bundle []byte
	etag, polls, bad := "", 0, ""
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		polls++
		switch {
		case r.Header.Get("Authorization") != "Bearer "+adminToken:
			bad = "the token is missing"
		case (r.Header.Get("If-None-Match") != "") != (r.Header.Get("Prefer") == "modes=snapshot;wait=30"):
			bad = "Prefer " + r.Header.Get("Prefer")
		}
		switch {
		case bundle == nil:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case r.Header.Get("If-None-Match") == etag:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", etag)
			_, _ = w.Write(bundle)
		}
	}))
	defer web.Close()
	serve := func(content []byte, tag string) {
		mu.Lock()
		defer mu.Unlock()
		bundle, etag = content, tag
	}
	polled := func() int {
		mu.Lock()
		defer mu.Unlock()
		return polls
	}

	s := start(t, sidecar.Options{Bundle: web.URL + "/v1/bundles/usher.tar.gz", Token: adminToken, BundleInterval: 5 * time.Millisecond})
	caller := call(t, s.URL(), nil)
	eventually(t, func() bool { return polled() > 1 }, "the server is asked again")
	status, body := caller.status(t, "/ready")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "the bundle could not be used")
	status, _ = caller.view(t)
	require.Equal(t, http.StatusServiceUnavailable, status)

	serve(bundleOf(t, 3, company(t)), `"three"`)
	eventually(t, func() bool { return s.Ready().Ready }, "the bundle is in force")
	_, got := caller.view(t)
	require.True(t, got.Decision)
	before := polled()
	eventually(t, func() bool { return polled() > before+2 }, "an unchanged bundle is asked for")
	require.Equal(t, 1, counter(t, caller, "usher_sidecar_bundles_applied_total"))
	serve(bundleOf(t, 9, company(t)), `"nine"`)
	eventually(t, func() bool { return s.Ready().Revision == 9 }, "the next bundle is in force")
	web.CloseClientConnections()
	web.Close()
	_, got = caller.view(t)
	require.Equal(t, policies.Revision(9), got.Context.Revision)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, bad)
}
