package feed

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

func signingKey(tb testing.TB) *signing.Key {
	tb.Helper()
	k, err := signing.Generate()
	require.NoError(tb, err)
	return k
}

func signsWith(tb testing.TB, keys ...*signing.Key) func(*Options) {
	tb.Helper()
	signer, err := signing.NewSigner(keys...)
	require.NoError(tb, err)
	return func(o *Options) { o.Signer = signer }
}

func verifiesWith(tb testing.TB, keys ...*signing.Key) func(*wire.Options) {
	tb.Helper()
	signer, err := signing.NewSigner(keys...)
	require.NoError(tb, err)
	return func(o *wire.Options) { o.Verifier = signer.Verifier() }
}

// A sidecar with keys follows through snapshot, ring, log and a new epoch, and so
// does one that trusts the connection.
func TestSignedFeedIsFollowed(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	small := func(o *Options) {
		signsWith(t, k)(o)
		o.RingSize = 3
	}
	r := newReplica(t, p, small)
	s := newSidecar(t, r.http.URL, verifiesWith(t, k))
	s.reaches(t, p.State())
	trusting := newSidecar(t, r.http.URL, nil)
	for i := range 5 {
		p.WriteEnvironments("a", strings.Repeat("x", i+1), 1)
		s.reaches(t, p.State())
	}
	s.stop()
	p.WriteEnvironments("a", "log", 2*wire.MaxSealed)
	r.fed(t)
	s = runSidecar(t, s.Engine, r.http.URL, verifiesWith(t, k))
	s.reaches(t, p.State())
	require.Empty(t, s.feed.Status().Refusals)
	queries := r.tamper.queries()
	require.Contains(t, queries[len(queries)-1], "revision=", "it resumed")
	p.Restore(3, feedtest.Account(t, "b"))
	p.WriteEnvironments("b", "more", 5)
	s.reaches(t, p.State())
	trusting.reaches(t, p.State())

	r.fed(t)
	n := &noticed{} // begins three revisions back: sealed ones come before it is where it begins
	client, _ := runClient(t, wire.Options{URL: r.http.URL, Notices: n, Replay: 3, Verifier: verifier(t, k), Logger: testLogger(t)})
	require.NoError(t, client.WaitReady(testContext(t)))
	p.WriteEnvironments("b", "n", 3)
	n.reaches(t, p.State().Revision())
	require.Empty(t, client.Status().Refusals)
}

func verifier(tb testing.TB, keys ...*signing.Key) *signing.Verifier {
	tb.Helper()
	var o wire.Options
	verifiesWith(tb, keys...)(&o)
	return o.Verifier
}

// TestForgeriesAreRefused: whatever somebody on the way does, the sidecar refuses it,
// counts it, keeps its state, and goes on once the way is clear. Digests and hashes
// that the forger can compute are computed.
func TestForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	k, other := signingKey(t), signingKey(t)
	old := recorded(t, k)
	for _, c := range []struct {
		name  string
		lines func() lineChanger
		want  wire.RefusalKind
	}{
		{"a change's time", fault{on: wire.TypeChange, line: at(0, replaced(`"time":"2030`, `"time":"2031`))}.lines, wire.RefusedAltered},
		{"a change left out", fault{on: wire.TypeChange, line: at(1, dropped)}.lines, wire.RefusedMalformed},
		{"a seal left out", fault{on: wire.TypeSeal, line: at(0, dropped)}.lines, wire.RefusedTruncated},
		{"a seal's signature", fault{on: wire.TypeSeal, line: at(0, broken)}.lines, wire.RefusedForged},
		{"a seal without signatures", fault{on: wire.TypeSeal, line: at(0, stripped)}.lines, wire.RefusedUnsigned},
		{"a heartbeat's time", fault{on: wire.TypeHeartbeat, line: at(2, replaced(`"time":"20`, `"time":"21`))}.lines, wire.RefusedForged},
		{"a heartbeat without signatures", fault{on: wire.TypeHeartbeat, line: at(2, stripped)}.lines, wire.RefusedUnsigned},
		{"a heartbeat of another connection", fault{on: wire.TypeHeartbeat, line: at(1, instead(old))}.lines, wire.RefusedReplayed},
		{"by another key", fault{on: wire.TypeHeartbeat, line: at(0, replaced(k.ID(), other.ID()))}.lines, wire.RefusedUnsigned},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			r := newReplica(t, p, signsWith(t, k))
			s := newSidecar(t, r.http.URL, verifiesWith(t, k))
			s.reaches(t, p.State())
			s.stop()
			before := p.State()
			r.tamper.set(c.lines)
			p.WriteEnvironments("a", "e", 2)
			r.fed(t)
			s = runSidecar(t, s.Engine, r.http.URL, verifiesWith(t, k))
			eventually(t, "it is refused as "+string(c.want), func() bool { return s.feed.Status().Refusals[c.want] > 0 })
			require.GreaterOrEqual(t, s.State().Revision(), before.Revision())
			r.tamper.set(nil)
			s.reaches(t, p.State())
		})
	}
}

// recorded is a heartbeat that was signed for a connection of yesterday.
func recorded(tb testing.TB, k *signing.Key) string {
	tb.Helper()
	p := feedtest.New(tb, "p", feedtest.Account(tb, "a"))
	signer, err := signing.NewSigner(k)
	require.NoError(tb, err)
	beat := &wire.Heartbeat{Platform: "p", Revision: p.State().Revision(), Hash: p.State().Hash(), Time: p.Log()[0].Time, Nonce: "01"}
	require.NoError(tb, beat.Sign(signer))
	line, err := wire.AppendFrame(nil, beat)
	require.NoError(tb, err)
	return string(line) + "\n"
}

// broken changes a digit within the signature.
func broken(line []byte) ([][]byte, bool) {
	out := bytes.Clone(line)
	i := bytes.LastIndexByte(out, ':') + 20
	if out[i]++; out[i] == 'z'+1 || out[i] == 'Z'+1 || out[i] == '9'+1 {
		out[i] -= 2
	}
	return asLine(out), false
}

// stripped leaves the signatures out.
func stripped(line []byte) ([][]byte, bool) {
	unsigned, _, _ := bytes.Cut(line, []byte(`,"signatures"`))
	return asLine(append(bytes.Clone(unsigned), '}')), false
}

// A snapshot is refused whole if its end is not signed for what it is, for its mode,
// and by a known key; the digest alone does not count.
func TestForgedSnapshotsAreRefused(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	for _, c := range []struct {
		name string
		line func([]byte) ([][]byte, bool)
		want wire.RefusalKind
	}{
		{"unsigned", stripped, wire.RefusedUnsigned},
		{"a wrong signature", broken, wire.RefusedForged},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			r := newReplica(t, p, signsWith(t, k))
			r.tamper.set(fault{on: wire.TypeSnapshotEnd, line: at(0, c.line)}.lines)
			s := newSidecar(t, r.http.URL, verifiesWith(t, k))
			eventually(t, "it is refused", func() bool { return s.feed.Status().Refusals[c.want] > 0 })
			require.Nil(t, s.State())
			require.False(t, s.feed.Ready())
			r.tamper.set(nil)
			s.reaches(t, p.State())
		})
	}
	t.Run("that of the other mode", func(t *testing.T) {
		t.Parallel()
		p := feedtest.New(t, "p", feedtest.Account(t, "a"))
		r := newReplica(t, p, signsWith(t, k))
		r.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			q.URL.RawQuery = strings.Replace(q.URL.RawQuery, "mode=resident", "mode=notices", 1)
			r.tamper.ServeHTTP(w, q)
		})
		s := newSidecar(t, r.http.URL, verifiesWith(t, k))
		eventually(t, "it is refused", func() bool { return s.feed.Status().Refusals[wire.RefusedForged] > 0 })
		require.Nil(t, s.State(), "a platform without accounts")
	})
}

// Without signatures a sidecar with keys takes nothing, and after a rotation with
// overlap it has missed nothing.
func TestKeysAreRotatedWithOverlap(t *testing.T) {
	t.Parallel()
	before, after := signingKey(t), signingKey(t)
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	unsigned := newReplica(t, p, nil)
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	s := runSidecar(t, engine, unsigned.http.URL, verifiesWith(t, before))
	eventually(t, "it is refused", func() bool { return s.feed.Status().Refusals[wire.RefusedUnsigned] > 0 })
	require.Nil(t, s.State())
	s.stop()
	for _, step := range []struct{ signs, verifies []*signing.Key }{
		{[]*signing.Key{before}, []*signing.Key{before}},
		{[]*signing.Key{before, after}, []*signing.Key{before}},
		{[]*signing.Key{after, before}, []*signing.Key{before, after}},
		{[]*signing.Key{after, before}, []*signing.Key{after}},
		{[]*signing.Key{after}, []*signing.Key{after}},
	} {
		p.WriteEnvironments("a", "e"+p.State().Revision().String(), 1)
		r := newReplica(t, p, signsWith(t, step.signs...))
		s := runSidecar(t, engine, r.http.URL, verifiesWith(t, step.verifies...))
		s.reaches(t, p.State())
		require.Empty(t, s.feed.Status().Refusals)
		s.stop()
	}
}

func TestLookupsAreSigned(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	p := feedtest.New(t, "p", feedtest.Account(t, "a"), feedtest.Environment(t, "a", "e"))
	r := newReplica(t, p, signsWith(t, k))
	req := wire.LookupRequest{Accounts: []wire.LookupAccountRequest{{ID: "a"}}}
	client, err := wire.New(wire.Options{URL: r.http.URL, Notices: &noticed{}, Verifier: verifier(t, k)})
	require.NoError(t, err)
	got, err := client.Lookup(testContext(t), req)
	require.NoError(t, err)
	require.Len(t, got.Accounts["a"].Objects, 2)

	for name, change := range map[string]func(http.ResponseWriter, *http.Request){
		"another answer": func(w http.ResponseWriter, q *http.Request) {
			q.Header.Del("Accept-Encoding")
			r.server.ServeLookup(&edited{w, `"groups":[]`, `"groups":["g"]`}, q)
		},
		"an answer to another request": func(w http.ResponseWriter, q *http.Request) {
			q.Header.Set(wire.NonceHeader, "00")
			r.server.ServeLookup(w, q)
		},
		"no signature": func(w http.ResponseWriter, q *http.Request) {
			q.Header.Del("Accept-Encoding")
			r.server.ServeLookup(&edited{w, `"signatures"`, `"signature"`}, q)
		},
	} {
		mux := http.NewServeMux()
		mux.HandleFunc(wire.LookupPath, change)
		r.tamper.swap(mux)
		_, err := client.Lookup(testContext(t), req)
		var refused *wire.RefusedError
		require.ErrorAs(t, err, &refused, name)
		require.Contains(t, []wire.RefusalKind{wire.RefusedForged, wire.RefusedUnsigned}, refused.Kind)
	}
	require.NotEmpty(t, client.Status().Refusals)
}

// edited replaces a text in what is written at once.
type edited struct {
	http.ResponseWriter
	old, by string
}

func (e *edited) Unwrap() http.ResponseWriter { return e.ResponseWriter }

func (e *edited) Write(p []byte) (int, error) {
	_, err := e.ResponseWriter.Write(bytes.ReplaceAll(p, []byte(e.old), []byte(e.by))) //nolint:gosec // a test's own JSON
	return len(p), err
}

func TestNonceIsChecked(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p"), signsWith(t, signingKey(t)))
	for _, nonce := range []string{"x", "A", strings.Repeat("0", 65), "0%0a"} {
		answer := httptest.NewRecorder()
		r.server.ServeFeed(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, wire.StreamPath+"?nonce="+nonce, nil))
		require.Equal(t, http.StatusBadRequest, answer.Code, nonce)
	}
	require.True(t, wire.ValidNonce(strings.Repeat("0a", 32)))
	require.LessOrEqual(t, policies.Revision(1), r.State().Revision())
}

// found is a searcher that always finds the same.
type found struct{ authz.Found }

func (f found) Search(context.Context, policies.Revision, authz.Search) (authz.Found, error) {
	return f.Found, nil
}

func TestSearchesAreSigned(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	r := newReplica(t, feedtest.New(t, "p", feedtest.Account(t, "a")), signsWith(t, k))
	serve := r.server.ServeSearch(found{authz.Found{Revision: 1, IDs: []string{"one", `"signatures":`}}})
	r.tamper.swap(serve)
	client, err := wire.New(wire.Options{URL: r.http.URL, Notices: &noticed{}, Verifier: verifier(t, k)})
	require.NoError(t, err)
	search := authz.Search{Sought: authz.SoughtResources, Limit: 5}
	got, err := client.Search(testContext(t), 0, search)
	require.NoError(t, err)
	require.Equal(t, []string{"one", `"signatures":`}, got.IDs)

	for name, change := range map[string]http.HandlerFunc{
		"another answer": func(w http.ResponseWriter, q *http.Request) { serve.ServeHTTP(&edited{w, "one", "two"}, q) },
		"an answer to another request": func(w http.ResponseWriter, q *http.Request) {
			q.Header.Set(wire.NonceHeader, "00")
			serve.ServeHTTP(w, q)
		},
		"no signature": func(w http.ResponseWriter, q *http.Request) {
			serve.ServeHTTP(&edited{w, `,"signatures"`, `,"signature"`}, q)
		},
	} {
		r.tamper.swap(change)
		_, err := client.Search(testContext(t), 0, search)
		var refused *wire.RefusedError
		require.ErrorAs(t, err, &refused, name)
	}
	require.NotEmpty(t, client.Status().Refusals)
}
