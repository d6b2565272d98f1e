package feed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// deaf opens a stream and never reads from it.
func deaf(tb testing.TB, url string) {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	require.NoError(tb, conn.(*net.TCPConn).SetReadBuffer(4<<10)) // or the kernel reads for it
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", wire.StreamPath)
	require.NoError(tb, err)
}

// bulk makes n changes of 200 KB each, more in all than the kernel buffers.
func bulk(tb testing.TB, p *feedtest.Platform, n int) {
	tb.Helper()
	for i := range n {
		name := strings.Repeat(string(rune('a'+i%26)), 200_000)
		p.Write(feedtest.Object(tb, policies.KindRole, "a", "r", policies.RoleBody{Name: name, Policies: []policies.PolicyID{}}))
	}
}

func TestReaderThatDoesNotReadSlowsNobody(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.RingBytes, o.WriteTimeout = 1<<20, 300*time.Millisecond })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	for range 3 {
		deaf(t, r.http.URL)
	}
	eventually(t, "all are connected", func() bool { return r.streams() == 4 })
	bulk(t, p, 60)
	require.NoError(t, s.WaitFor(testContext(t), p.State().Revision()))
	r.server.ring.mu.Lock()
	require.LessOrEqual(t, r.server.ring.bytes, 1<<20)
	r.server.ring.mu.Unlock()
	eventually(t, "the deaf are dropped", func() bool { return value(t, r.server.metrics.dropped) == 3 })
	require.True(t, s.feed.Status().Connected)
	require.Empty(t, s.feed.Status().Refusals)
}

func (r *replica) streams() int {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return len(r.server.streams)
}

func TestStopEndsStreamsPromptly(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.WriteTimeout, o.CatchUpWait = time.Hour, time.Hour })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	deaf(t, r.http.URL)
	eventually(t, "both are connected", func() bool { return r.streams() == 2 })
	bulk(t, p, 60)
	waits, client, ctx := make(chan error, 1), newLookups(t, r.http.URL), testContext(t)
	go func() {
		_, err := client.Lookup(ctx, wire.LookupRequest{Min: 1 << 30, Subjects: []policies.AccountID{"b"}})
		waits <- err
	}()
	require.NoError(t, s.WaitFor(testContext(t), p.State().Revision()))

	begun := time.Now()
	require.NoError(t, r.server.Stop(testContext(t)))
	require.Less(t, time.Since(begun), patience/2)
	require.Error(t, <-waits)
	require.NoError(t, r.server.Stop(testContext(t)), "twice")
	require.Error(t, r.server.Start(t.Context()))
	s.stop()
	require.Empty(t, s.feed.Status().Refusals, "an orderly end is no refusal")

	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, r.http.URL+wire.StreamPath, nil)
	require.NoError(t, err)
	requireProblem(t, req, http.StatusServiceUnavailable, problem.Unavailable)
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Source: feedtest.New(t, "p")})
	require.NoError(t, err)
	require.NoError(t, s.Stop(testContext(t)))
	require.NoError(t, s.Stop(testContext(t)))
}

func TestStreamFaults(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p", feedtest.Account(t, "a")), func(o *Options) { o.CatchUpWait = 1 })
	hash := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		method string
		query  url.Values
		header http.Header
		status int
		kind   problem.Type
	}{
		"method":           {http.MethodPost, nil, nil, 405, problem.Method},
		"head":             {http.MethodHead, nil, nil, 405, ""},
		"unknown":          {"", url.Values{"since": {"1"}}, nil, 400, problem.Malformed},
		"other case":       {"", url.Values{"Mode": {"resident"}}, nil, 400, problem.Malformed},
		"repeated":         {"", url.Values{"mode": {"resident", "notices"}}, nil, 400, problem.Malformed},
		"mode":             {"", url.Values{"mode": {"all"}}, nil, 400, problem.Malformed},
		"revision alone":   {"", url.Values{"revision": {"1"}}, nil, 400, problem.Malformed},
		"hash alone":       {"", url.Values{"hash": {hash}}, nil, 400, problem.Malformed},
		"revision":         {"", url.Values{"revision": {"-1"}, "hash": {hash}}, nil, 400, problem.Malformed},
		"revision's range": {"", url.Values{"revision": {"9007199254740992"}, "hash": {hash}}, nil, 400, problem.Malformed},
		"hash":             {"", url.Values{"revision": {"1"}, "hash": {"0"}}, nil, 400, problem.Malformed},
		"replay":           {"", url.Values{"replay": {"-1"}}, nil, 400, problem.Malformed},
		"platform":         {"", url.Values{"platform": {"q"}}, nil, 409, problem.OtherPlatform},
		"ahead":            {"", url.Values{"revision": {"9"}, "hash": {hash}}, nil, 503, problem.RevisionBehind},
		"act as":           {"", nil, http.Header{"Usher-Act-As": {"a"}}, 400, problem.ActAs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(testContext(t), c.method, r.http.URL+wire.StreamPath+"?"+c.query.Encode(), nil)
			require.NoError(t, err)
			maps.Copy(req.Header, c.header)
			requireProblem(t, req, c.status, c.kind)
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p")
	r := newReplica(t, p, func(o *Options) { o.MaxConnections = 2 })
	first, second := newSidecar(t, r.http.URL, nil), newSidecar(t, r.http.URL, nil)
	first.reaches(t, p.State())
	second.reaches(t, p.State())
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, r.http.URL+wire.StreamPath, nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "zstd")
	requireProblem(t, req, http.StatusServiceUnavailable, problem.Unavailable)
	third := newSidecar(t, r.http.URL, nil)
	first.stop()
	third.reaches(t, p.State())
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	for accept, want := range map[string]string{
		"": "", "identity": "", "gzip": "gzip", "zstd": "zstd", "gzip, zstd": "zstd", "zstd;q=0, gzip;q=0.5": "gzip",
		"br, *": "zstd", "gzip;q=nonsense": "", "ZSTD": "zstd",
	} {
		t.Run(accept, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, r.http.URL+wire.StreamPath, nil)
			require.NoError(t, err)
			req.Header.Set("Accept-Encoding", accept)
			resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			require.Equal(t, want, resp.Header.Get("Content-Encoding"))
			require.Equal(t, wire.ContentType, resp.Header.Get("Content-Type"))
			var body io.Reader = resp.Body
			switch want {
			case "gzip":
				body, err = gzip.NewReader(resp.Body)
			case "zstd":
				z, zErr := zstd.NewReader(resp.Body, zstd.WithDecoderConcurrency(1))
				body, err = z, zErr
				defer z.Close()
			}
			require.NoError(t, err)
			in := wire.NewReader(body)
			for _, want := range []wire.Type{wire.TypeHeartbeat, wire.TypeSnapshot, wire.TypeObject} {
				f, err := in.Next()
				require.NoError(t, err)
				require.Equal(t, want, f.Type())
			}
		})
	}
}

// TestHeartbeatsWithinASnapshot: a snapshot that takes longer than a heartbeat's
// interval has heartbeats in it, and they do not belong to it.
func TestHeartbeatsWithinASnapshot(t *testing.T) {
	t.Parallel()
	objects := []policies.Object{feedtest.Account(t, "a")}
	for i := range 5_000 {
		objects = append(objects, feedtest.Environment(t, "a", fmt.Sprintf("environment-%d", i)))
	}
	p := feedtest.New(t, "p", objects...)
	r := newReplica(t, p, func(o *Options) { o.Heartbeat = 100 * time.Microsecond })
	var within atomic.Int64
	r.tamper.set(func() lineChanger {
		building := false
		return func(line []byte) ([][]byte, bool) {
			switch {
			case strings.HasPrefix(string(line[:20]), `{"type":"snapshot"`):
				building = true
			case strings.HasPrefix(string(line[:min(len(line), 30)]), `{"type":"snapshot_end"`):
				building = false
			case building && strings.HasPrefix(string(line), `{"type":"heartbeat"`):
				within.Add(1)
			}
			return asLine(line), false
		}
	})
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	require.Greater(t, within.Load(), int64(2))
}

func TestChangeTooLargeForAFrameIsASnapshot(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	// What the follower puts into the ring for such a change has no line.
	at, _ := r.server.ring.tip()
	st := &stream{s: r.server, q: query{mode: wire.ModeResident}, beat: time.Now().Add(time.Hour)}
	require.NoError(t, st.send([]*entry{{before: at, after: place{at.revision + 1, at.hash}}}))
	require.True(t, st.fresh)
	require.Equal(t, at.revision+1, st.least)
}

func TestServerMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.Registerer = registry })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	r.fed(t)
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	require.Equal(t, 1, got["usher_feed_server_connections resident"])
	require.Equal(t, 0, got["usher_feed_server_connections notices"])
	require.Equal(t, 1, got["usher_feed_server_revision"])
	require.Equal(t, 1, got["usher_feed_server_slowest_revision"])
	require.Equal(t, 1, got["usher_feed_server_snapshots_total"])
	require.Greater(t, got["usher_feed_server_bytes_total"], 100)

	_, err = New(Options{Source: p, Registerer: registry})
	require.ErrorContains(t, err, "duplicate metrics collector registration")
	families, err = s.registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := New(Options{RingSize: -1, MaxReplay: wire.MaxReplay + 1})
	require.ErrorContains(t, err, "needs a source")
	require.ErrorContains(t, err, "RingSize is negative")
	require.ErrorContains(t, err, "MaxReplay is")
}

// TestServerWithoutAState answers 503 until there is one.
func TestServerWithoutAState(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p"), func(o *Options) { o.Source = stateless{o.Source} })
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, r.http.URL+wire.StreamPath, nil)
	require.NoError(t, err)
	requireProblem(t, req, http.StatusServiceUnavailable, problem.Unavailable)
}

func TestFirstFrameIsAHeartbeat(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p")
	r := newReplica(t, p, func(o *Options) { o.Heartbeat = time.Hour })
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.http.URL+wire.StreamPath, nil)
	require.NoError(t, err)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, `{"type":"heartbeat","platform":"p","revision":1,`), line)
}
