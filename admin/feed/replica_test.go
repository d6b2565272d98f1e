package feed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// eventually polls until ok, or fails.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ctx := testContext(tb)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(tb, "this did not come true: "+what)
		}
	}
}

func testLogger(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// replica is an admin replica: a platform, its feed server, and HTTP before it.
type replica struct {
	*feedtest.Platform
	server *Server
	http   *httptest.Server
	tamper *tamper
}

func newReplica(tb testing.TB, p *feedtest.Platform, adapt func(*Options)) *replica {
	tb.Helper()
	o := Options{Source: p, Heartbeat: 20 * time.Millisecond, Logger: testLogger(tb)}
	if adapt != nil {
		adapt(&o)
	}
	s, err := New(o)
	require.NoError(tb, err)
	require.NoError(tb, s.Start(tb.Context()))
	mux := http.NewServeMux()
	mux.HandleFunc(wire.StreamPath, s.ServeFeed)
	mux.HandleFunc(wire.LookupPath, s.ServeLookup)
	r := &replica{Platform: p, server: s, tamper: &tamper{next: mux}}
	r.http = httptest.NewUnstartedServer(r.tamper)
	r.http.Config.ReadTimeout = time.Second // streams must outlive it
	r.http.Start()
	tb.Cleanup(func() {
		require.NoError(tb, s.Stop(context.Background()))
		r.http.Close()
	})
	return r
}

// sidecar is a resident sidecar: an engine that follows the feed.
type sidecar struct {
	*authz.Engine
	feed     *wire.Client
	registry *prometheus.Registry
	stop     func()
}

func newSidecar(tb testing.TB, url string, adapt func(*wire.Options)) *sidecar {
	tb.Helper()
	engine, err := authz.New(authz.Options{})
	require.NoError(tb, err)
	return runSidecar(tb, engine, url, adapt)
}

func runSidecar(tb testing.TB, engine *authz.Engine, url string, adapt func(*wire.Options)) *sidecar {
	tb.Helper()
	s := &sidecar{Engine: engine, registry: prometheus.NewRegistry()}
	o := wire.Options{
		URL: url, Sink: engine, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Logger: testLogger(tb), Registerer: s.registry,
	}
	if adapt != nil {
		adapt(&o)
	}
	s.feed, s.stop = runClient(tb, o)
	return s
}

func runClient(tb testing.TB, o wire.Options) (client *wire.Client, stop func()) {
	tb.Helper()
	client, err := wire.New(o)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	tb.Cleanup(stop)
	return client, stop
}

// reaches waits for the sidecar to be where want is, and compares everything.
func (s *sidecar) reaches(tb testing.TB, want *authz.State) {
	tb.Helper()
	require.NoError(tb, s.WaitFor(testContext(tb), want.Revision()), "wait for revision %d", want.Revision())
	requireEqual(tb, want, s.State())
}

func requireEqual(tb testing.TB, want, got *authz.State) {
	tb.Helper()
	require.Equal(tb, want.Header(), got.Header())
	if diff := difference(tb, want, got); diff != "" {
		require.FailNow(tb, "the states differ", diff)
	}
}

// difference tells what two states differ in, empty if in nothing.
func difference(tb testing.TB, want, got *authz.State) string {
	tb.Helper()
	a, b := feedtest.Objects(tb, want), feedtest.Objects(tb, got)
	same := slices.EqualFunc(a, b, func(x, y policies.Object) bool {
		return x.Kind == y.Kind && x.Owner == y.Owner && x.ID == y.ID && bytes.Equal(x.Body, y.Body)
	})
	if same { // cmp takes seconds to find nothing in many
		return ""
	}
	return cmp.Diff(a, b)
}

// tamper stands between server and clients and may change what the server says.
type tamper struct {
	mu    sync.Mutex
	next  http.Handler
	lines func() lineChanger
	query []string
}

// lineChanger gives the lines that go out in place of one; end ends the stream.
type lineChanger func(line []byte) (lines [][]byte, end bool)

// set lets what f makes change the lines of each stream that begins from now on;
// nil: none.
func (tm *tamper) set(f func() lineChanger) {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	tm.lines = f
}

// swap lets next serve what is asked from now on.
func (tm *tamper) swap(next http.Handler) {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	tm.next = next
}

func (tm *tamper) queries() []string {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	return append([]string(nil), tm.query...)
}

func (tm *tamper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tm.mu.Lock()
	lines, next := tm.lines, tm.next
	tm.query = append(tm.query, r.URL.RawQuery)
	tm.mu.Unlock()
	if lines != nil {
		r.Header.Del("Accept-Encoding")
		w = &tampered{ResponseWriter: w, change: lines()}
	}
	next.ServeHTTP(w, r)
}

type tampered struct {
	http.ResponseWriter
	change lineChanger
	begun  []byte
	ended  bool
}

var errTampered = errors.New("ended by the test")

func (tw *tampered) Unwrap() http.ResponseWriter { return tw.ResponseWriter }

func (tw *tampered) Write(p []byte) (int, error) {
	if tw.ended {
		return 0, errTampered
	}
	tw.begun = append(tw.begun, p...)
	for {
		line, rest, ok := bytes.Cut(tw.begun, []byte{'\n'})
		if !ok {
			return len(p), nil
		}
		lines, end := tw.change(line)
		tw.begun = rest
		for _, line := range lines {
			if _, err := tw.ResponseWriter.Write(line); err != nil {
				return 0, err
			}
		}
		if end {
			tw.ended = true
			return 0, errTampered
		}
	}
}

func asLine(line []byte) [][]byte { return [][]byte{append(bytes.Clone(line), '\n')} }

// noticed collects what a notice client is told.
type noticed struct {
	mu        sync.Mutex
	begun     []wire.Beginning
	notices   []wire.Notice
	refuse    error
	heartbeat time.Time
}

func (n *noticed) Begin(b wire.Beginning) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begun = append(n.begun, b)
	return nil
}

func (n *noticed) Notice(notice wire.Notice) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse != nil {
		err := n.refuse
		n.refuse = nil
		return err
	}
	n.notices = append(n.notices, notice)
	return nil
}

func (n *noticed) Observe(t time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heartbeat = t
}

func (n *noticed) revisions() []policies.Revision {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []policies.Revision
	for _, notice := range n.notices {
		all = append(all, notice.Revision)
	}
	return all
}

// listenAgain moves the replica to an address that was another's.
func (r *replica) listenAgain(tb testing.TB, address string) {
	tb.Helper()
	r.http.Close()
	var listener net.Listener
	eventually(tb, "the address is free", func() bool {
		var err error
		listener, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
		return err == nil
	})
	r.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: r.tamper, ReadHeaderTimeout: time.Second}}
	r.http.Start()
}

// value is what a counter or gauge stands at.
func value(tb testing.TB, m prometheus.Metric) int {
	tb.Helper()
	var out dto.Metric
	require.NoError(tb, m.Write(&out))
	return int(out.GetCounter().GetValue() + out.GetGauge().GetValue())
}

// fed waits for the ring to be where the platform is.
func (r *replica) fed(tb testing.TB) {
	tb.Helper()
	eventually(tb, "the ring is fed", func() bool {
		tip, _ := r.server.ring.tip()
		return tip.revision == r.State().Revision()
	})
}

// alone waits for every stream to have ended.
func (r *replica) alone(tb testing.TB) {
	tb.Helper()
	eventually(tb, "no stream is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.streams) == 0
	})
}

// stateless is a source without a state.
type stateless struct{ Source }

func (stateless) State() *authz.State { return nil }
