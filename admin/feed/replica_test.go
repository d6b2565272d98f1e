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
const patience = 60 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok, or fails.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(t, "this did not come true: "+what)
		}
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// replica is an admin replica: a platform, its feed server, and HTTP before it.
type replica struct {
	*feedtest.Platform
	server *Server
	http   *httptest.Server
	tamper *tamper
}

func newReplica(t testing.TB, p *feedtest.Platform, adapt func(*Options)) *replica {
	t.Helper()
	o := Options{Source: p, Heartbeat: 20 * time.Millisecond, Logger: testLogger(t)}
	if adapt != nil {
		adapt(&o)
	}
	s, err := New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	mux := http.NewServeMux()
	mux.HandleFunc(wire.StreamPath, s.ServeFeed)
	mux.HandleFunc(wire.LookupPath, s.ServeLookup)
	r := &replica{Platform: p, server: s, tamper: &tamper{next: mux}}
	r.http = httptest.NewUnstartedServer(r.tamper)
	r.http.Config.ReadTimeout = 100 * time.Millisecond // streams must outlive it
	r.http.Start()
	t.Cleanup(func() {
		require.NoError(t, s.Stop(context.Background()))
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

func newSidecar(t testing.TB, url string, adapt func(*wire.Options)) *sidecar {
	t.Helper()
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	return runSidecar(t, engine, url, adapt)
}

func runSidecar(t testing.TB, engine *authz.Engine, url string, adapt func(*wire.Options)) *sidecar {
	t.Helper()
	s := &sidecar{Engine: engine, registry: prometheus.NewRegistry()}
	o := wire.Options{
		URL: url, Sink: engine, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Logger: testLogger(t), Registerer: s.registry,
	}
	if adapt != nil {
		adapt(&o)
	}
	s.feed, s.stop = runClient(t, o)
	return s
}

func runClient(t testing.TB, o wire.Options) (client *wire.Client, stop func()) {
	t.Helper()
	client, err := wire.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return client, stop
}

// reaches waits for the sidecar to be where want is, and compares everything.
func (s *sidecar) reaches(t testing.TB, want *authz.State) {
	t.Helper()
	require.NoError(t, s.WaitFor(testContext(t), want.Revision()), "wait for revision %d", want.Revision())
	requireEqual(t, want, s.State())
}

func requireEqual(t testing.TB, want, got *authz.State) {
	t.Helper()
	require.Equal(t, want.Header(), got.Header())
	if diff := difference(t, want, got); diff != "" {
		require.FailNow(t, "the states differ", diff)
	}
}

// difference tells what two states differ in, empty if in nothing.
func difference(t testing.TB, want, got *authz.State) string {
	t.Helper()
	a, b := feedtest.Objects(t, want), feedtest.Objects(t, got)
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
func (r *replica) listenAgain(t testing.TB, address string) {
	t.Helper()
	r.http.Close()
	var listener net.Listener
	eventually(t, "the address is free", func() bool {
		var err error
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		return err == nil
	})
	r.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: r.tamper, ReadHeaderTimeout: time.Second}}
	r.http.Start()
}

// value is what a counter or gauge stands at.
func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// fed waits for the ring to be where the platform is.
func (r *replica) fed(t testing.TB) {
	t.Helper()
	eventually(t, "the ring is fed", func() bool {
		tip, _ := r.server.ring.tip()
		return tip.revision == r.State().Revision()
	})
}

// alone waits for every stream to have ended.
func (r *replica) alone(t testing.TB) {
	t.Helper()
	eventually(t, "no stream is left", func() bool {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return len(r.server.streams) == 0
	})
}

// stateless is a source without a state.
type stateless struct{ Source }

func (stateless) State() *authz.State { return nil }
