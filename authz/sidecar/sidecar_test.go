package sidecar_test

import (
	"bufio"
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// counter reads one number from /metrics.
func counter(t *testing.T, c caller, name string) int {
	t.Helper()
	_, text := c.status(t, "/metrics")
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			return int(number)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestResident: ready once it has caught up, tokens by the feed, changes at once,
// and answers without the admin server.
func TestResident(t *testing.T) {
	t.Parallel()
	admin := serveFeed(t, company(t))
	s := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken})
	caller := call(t, s.URL(), nil)
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	status, body := caller.status(t, "/ready")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"mode":"resident","revision":1`)
	status, _ = caller.status(t, "/health")
	require.Equal(t, http.StatusOK, status)
	status, body = caller.status(t, server.PathMetadata)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"policy_decision_point":"`+s.URL()+`"`)
	status, _ = caller.status(t, "/nowhere")
	require.Equal(t, http.StatusNotFound, status)

	status, _ = caller.view(t)
	require.Equal(t, http.StatusUnauthorized, status)
	caller.token = adminToken
	status, got := caller.view(t)
	require.Equal(t, http.StatusOK, status)
	require.True(t, got.Decision)

	// A demand for what comes a moment later waits for it.
	revision := admin.write(t, policies.KindRole, "olga", "r", policies.RoleBody{Name: "Nothing"})
	status, got = caller.view(t, server.HeaderMinRevision, revision.String())
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, policies.ReasonActionNotGranted, got.Context.Reason)
	require.Equal(t, revision, got.Context.Revision)

	admin.web.CloseClientConnections()
	admin.web.Close()
	status, got = caller.view(t)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, revision, got.Context.Revision)
}

// TestRevokedToken: a revoked token stops at the sidecar with its revision.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	admin := serveFeed(t, company(t))
	s := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken})
	caller := call(t, s.URL(), nil)
	caller.token = adminToken
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	revision := admin.write(t, policies.KindToken, "", "t", nil)
	eventually(t, func() bool { return s.Ready().Revision == revision }, "the revocation is there")
	status, _ := caller.view(t)
	require.Equal(t, http.StatusUnauthorized, status)
}

// TestNotReached: without the admin server there are no answers, and no token is
// known.
func TestNotReached(t *testing.T) {
	t.Parallel()
	for _, mode := range []sidecar.Mode{sidecar.ModeResident, sidecar.ModeOnDemand} {
		s := start(t, sidecar.Options{Mode: mode, AdminURL: "http://127.0.0.1:1", Token: adminToken})
		caller := call(t, s.URL(), nil)
		caller.token = adminToken
		status, body := caller.status(t, "/ready")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, body, "it has not reached the admin server yet")
		status, _ = caller.view(t)
		require.Equal(t, http.StatusServiceUnavailable, status)
		status, _ = caller.status(t, "/health")
		require.Equal(t, http.StatusOK, status)
	}
}

// TestMaxStaleness: beyond it there are no answers.
func TestMaxStaleness(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ahead time.Duration
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}
	admin := serveFeed(t, company(t))
	s := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken, MaxStaleness: time.Hour, Clock: clock})
	caller := call(t, s.URL(), nil)
	caller.token = adminToken
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	status, _ := caller.view(t)
	require.Equal(t, http.StatusOK, status)
	admin.web.CloseClientConnections()
	admin.web.Close()
	mu.Lock()
	ahead = 2 * time.Hour
	mu.Unlock()
	eventually(t, func() bool { return !s.Ready().Ready }, "it is stale")
	status, _ = caller.view(t)
	require.Equal(t, http.StatusServiceUnavailable, status)
}

// waitFor demands a revision in a goroutine, which tells the status of the answer, 0
// for none.
func (c caller) waitFor(t *testing.T, revision string) <-chan int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+server.PathEvaluation, strings.NewReader(
		`{"subject":{"type":"account","id":"mia"},"action":{"name":"a"},"resource":{"type":"environment","id":"e"}}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set(server.HeaderMinRevision, revision)
	answered := make(chan int, 1)
	go func() {
		defer close(answered)
		if response, err := c.http.Do(r); err == nil {
			_ = response.Body.Close()
			answered <- response.StatusCode
		}
	}()
	return answered
}

// TestGracefulStop: while a check waits, Stop makes the sidecar not ready, accepts
// nobody, and lets the check have its answer.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	admin := serveFeed(t, company(t))
	s := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken, MinRevisionWait: soon})
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	caller := call(t, s.URL(), nil)
	caller.token = adminToken
	answered := caller.waitFor(t, "2")
	eventually(t, func() bool { return counter(t, caller, "usher_server_in_flight") > 0 }, "the check waits")
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		stopped <- s.Stop(ctx)
	}()
	eventually(t, func() bool {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
		if err == nil {
			_ = connection.Close()
		}
		return err != nil
	}, "nobody is accepted")
	require.False(t, s.Ready().Ready)
	select {
	case status := <-answered:
		t.Fatalf("answered with %d before the revision was there", status)
	default:
	}
	admin.write(t, policies.KindAccount, "", "new", policies.AccountBody{})
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-stopped)
	<-s.Done()
}

// TestStopCutsOff: what does not finish in time is cut off.
func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	admin := serveFeed(t, company(t))
	s := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken, MinRevisionWait: time.Hour})
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	caller := call(t, s.URL(), nil)
	caller.token = adminToken
	answered := caller.waitFor(t, "99")
	eventually(t, func() bool { return counter(t, caller, "usher_server_in_flight") > 0 }, "the check waits")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Stop(ctx), context.DeadlineExceeded)
	require.Zero(t, <-answered)
}

// TestLife: start and stop in any order, and many at a time.
func TestLife(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b")
	write(t, path, bundleOf(t, 1, company(t)))
	for range 5 {
		s, err := sidecar.New(sidecar.Options{Bundle: path, Listen: "127.0.0.1:0"})
		require.NoError(t, err)
		require.Nil(t, s.Addr())
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() { _ = s.Start(t.Context()) })
			work.Go(func() { _ = s.Stop(t.Context()) })
		}
		work.Wait()
		require.NoError(t, s.Stop(t.Context()))
		<-s.Done()
		require.NoError(t, s.Err())
		require.ErrorContains(t, s.Start(t.Context()), "was started before")
	}
}

// TestPortTaken: an error of Start that says what to do.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b")
	write(t, path, bundleOf(t, 1, company(t)))
	first := start(t, sidecar.Options{Bundle: path})
	second, err := sidecar.New(sidecar.Options{Bundle: path, Listen: first.Addr().String()})
	require.NoError(t, err)
	require.ErrorContains(t, second.Start(t.Context()), "another process has this port: stop it or give another --listen")
	require.NoError(t, second.Stop(t.Context()))
}

// TestSocket: the file's mode, one that was left behind, one that is in use, and
// what is no socket.
func TestSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bundle, path := filepath.Join(dir, "b"), filepath.Join(dir, "s")
	write(t, bundle, bundleOf(t, 1, company(t)))

	left, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	unix, ok := left.(*net.UnixListener)
	require.True(t, ok)
	unix.SetUnlinkOnClose(false)
	require.NoError(t, left.Close())

	s := start(t, sidecar.Options{Bundle: bundle, Socket: path, SocketMode: 0o660})
	require.Nil(t, s.Addr())
	require.Empty(t, s.URL())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o660), info.Mode().Perm())
	_, got := call(t, "http://usher", bySocket(path)).view(t)
	require.True(t, got.Decision)

	second, err := sidecar.New(sidecar.Options{Bundle: bundle, Socket: path})
	require.NoError(t, err)
	require.ErrorContains(t, second.Start(t.Context()), "another process listens there")
	third, err := sidecar.New(sidecar.Options{Bundle: bundle, Socket: bundle})
	require.NoError(t, err)
	require.ErrorContains(t, third.Start(t.Context()), "is no socket")
	stop(t, second)
	stop(t, third)
	stop(t, s)
	require.NoFileExists(t, path)
}

// TestOptions: every problem at once, and in words that say what to do.
func TestOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]sidecar.Options{
		"there is nothing to listen on":                   {AdminURL: "https://a"},
		"the URL of the admin server is missing":          {Listen: "127.0.0.1:0"},
		"none of resident, on-demand and bundle":          {Mode: "both", Listen: "127.0.0.1:0"},
		"it takes no bundle":                              {Mode: sidecar.ModeResident, AdminURL: "https://a", Bundle: "b", Listen: "127.0.0.1:0"},
		"not by both":                                     {AdminURL: "https://a", Bundle: "b", Listen: "127.0.0.1:0"},
		"the mode bundle needs":                           {Mode: sidecar.ModeBundle, Listen: "127.0.0.1:0"},
		"a bundle does not tell how old":                  {Bundle: "b", MaxStaleness: 1, Listen: "127.0.0.1:0"},
		"the bundle's URL is not":                         {Bundle: "https://user:secret@host/b", Listen: "127.0.0.1:0"},
		"Redis is for the mode on-demand only":            {AdminURL: "https://a", Redis: &redis.UniversalOptions{}, Listen: "127.0.0.1:0"},
		"--redis-key-file":                                {Mode: sidecar.ModeOnDemand, AdminURL: "https://a", Redis: &redis.UniversalOptions{}, Listen: "127.0.0.1:0"},
		"is not HOST:PORT":                                {AdminURL: "https://a", Listen: "localhost"},
		"is beyond loopback and has no TLS":               {AdminURL: "https://a", Listen: ":8181"},
		"0.0.0.0:1 is beyond loopback":                    {AdminURL: "https://a", Listen: "0.0.0.0:1"},
		"everybody could ask on 10.0.0.1:1: only":         {AdminURL: "https://a", Listen: "10.0.0.1:1", Auth: server.AuthNone, InsecureListen: true},
		"everybody could ask on 10.0.0.1:1: listen":       {Bundle: "b", Listen: "10.0.0.1:1", InsecureListen: true, TLSCert: "c", TLSKey: "k"},
		"a bundle has no tokens: a listener cannot":       {Bundle: "b", Listen: "127.0.0.1:0", Auth: server.AuthToken},
		"neither token nor none":                          {AdminURL: "https://a", Listen: "127.0.0.1:0", Auth: "basic"},
		"must be https, except on loopback":               {AdminURL: "https://a", Listen: "127.0.0.1:0", PublicURL: "http://example.com"},
		"come together":                                   {AdminURL: "https://a", Listen: "127.0.0.1:0", TLSCert: "c"},
		"a certificate is for a TCP listener":             {AdminURL: "https://a", Socket: "s", TLSCert: "c", TLSKey: "k"},
		"not one of permissions":                          {AdminURL: "https://a", Socket: "s", SocketMode: fs.ModeSetuid},
		"a limit of the caches is negative":               {AdminURL: "https://a", Listen: "127.0.0.1:0", CacheLimit: -1},
		"the greatest staleness is negative":              {AdminURL: "https://a", Listen: "127.0.0.1:0", MaxStaleness: -1},
		"the interval of looking at the bundle":           {Bundle: "b", Listen: "127.0.0.1:0", BundleInterval: -1},
		"nothing to listen on: give --listen or --socket": {},
		"on the way to http://a anybody":                  {AdminURL: "http://a", Listen: "127.0.0.1:0"},
		"on the way from http://a/b anybody":              {Bundle: "http://a/b", Listen: "127.0.0.1:0"},
		"a decision log needs somewhere to go":            {Bundle: "b", Listen: "127.0.0.1:0", DecisionLog: &decisionlog.Options{}},
		"could read the token of the decision log":        {Bundle: "b", Listen: "127.0.0.1:0", DecisionLog: &decisionlog.Options{URL: "http://a/l", Token: "t"}},
	} {
		_, err := sidecar.New(o)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
	err := sidecar.Options{Mode: "x", Listen: ":1", CacheLimit: -1}.Validate()
	require.ErrorContains(t, err, "the mode is")
	require.ErrorContains(t, err, "no TLS")
	require.ErrorContains(t, err, "negative")
	for _, o := range []sidecar.Options{
		{AdminURL: "https://a", Listen: ":8181", InsecureListen: true},
		{AdminURL: "https://a", Listen: ":8181", TLSCert: "c", TLSKey: "k"},
		{AdminURL: "https://a", Listen: "[::1]:0", Auth: server.AuthNone},
		{AdminURL: "https://a", Socket: "s"},
		{Bundle: "b", Listen: "localhost:0", Socket: "s"},
		{AdminURL: "http://127.0.0.1:1", Listen: "127.0.0.1:0"},
		{AdminURL: "http://a", Verifier: &signing.Verifier{}, Listen: "127.0.0.1:0"},
	} {
		require.NoError(t, o.Validate())
	}
}
