package feed

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
)

// TestSidecarsConverge: after any interleaving of writes, cut and tampered
// connections, restarts of either side and restores of the database, every sidecar's
// state is the server's.
func TestSidecarsConverge(t *testing.T) {
	t.Parallel()
	var faults []fault
	for _, f := range append(snapshotFaults(), changeFaults()...) {
		if f.name != "endless object" { // eight megabytes each time
			faults = append(faults, f)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		roll := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "roll") }
		f := newTestFleet(t, roll)
		f.faults = faults
		defer f.end()
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			f.step()
		}
		f.tamper.set(nil)
		want := f.platform.State()
		for _, s := range f.sidecars {
			if err := s.WaitFor(testContext(t), want.Revision()); err != nil {
				rt.Fatalf("revision %d did not arrive, %+v: %v", want.Revision(), s.feed.Status(), err)
			}
			if diff := difference(t, want, s.State()); diff != "" || want.Header() != s.State().Header() {
				rt.Fatalf("the states differ: %s", diff)
			}
		}
	})
}

// testFleet is a platform with one replica at a time and two sidecars.
type testFleet struct {
	t        *testing.T
	roll     func(n int) int
	platform *feedtest.Platform
	handler  atomic.Pointer[http.Handler]
	server   *Server
	tamper   *tamper
	http     *httptest.Server
	sidecars []*sidecar
	faults   []fault
}

func newTestFleet(t *testing.T, roll func(n int) int) *testFleet {
	t.Helper()
	f := &testFleet{t: t, roll: roll, platform: feedtest.New(t, "p")}
	f.tamper = &tamper{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.handler.Load()).ServeHTTP(w, r) })}
	f.restartServer()
	f.http = httptest.NewServer(f.tamper)
	for range 2 {
		engine, err := authz.New(authz.Options{})
		require.NoError(t, err)
		f.sidecars = append(f.sidecars, f.run(engine))
	}
	return f
}

func (f *testFleet) run(engine *authz.Engine) *sidecar {
	return runSidecar(f.t, engine, f.http.URL, func(o *wire.Options) {
		o.RetryMin, o.RetryMax = time.Microsecond, time.Millisecond
		o.Logger, o.Silence = nil, 30*time.Millisecond
	})
}

func (f *testFleet) restartServer() {
	if f.server != nil {
		require.NoError(f.t, f.server.Stop(context.Background()))
	}
	var err error
	f.server, err = New(Options{
		Source: f.platform, Heartbeat: time.Millisecond, CatchUpWait: time.Millisecond,
		RingSize: 1 + f.roll(5), MaxReplay: 1 + f.roll(20),
	})
	require.NoError(f.t, err)
	require.NoError(f.t, f.server.Start(f.t.Context()))
	var handler http.Handler = http.HandlerFunc(f.server.ServeFeed)
	f.handler.Store(&handler)
}

func (f *testFleet) step() {
	switch f.roll(12) {
	case 0:
		f.http.CloseClientConnections()
	case 1:
		f.restartServer()
	case 2:
		log := f.platform.Log()
		f.platform.Restore(log[len(log)-1-f.roll(min(len(log), 5))].Revision)
	case 3:
		i := f.roll(len(f.sidecars))
		f.sidecars[i].stop()
		f.sidecars[i] = f.run(f.sidecars[i].Engine)
	case 4:
		f.tamper.set(f.faults[f.roll(len(f.faults))].lines)
		f.http.CloseClientConnections()
	case 5:
		f.tamper.set(nil)
		f.http.CloseClientConnections()
	case 6: // let them be where the platform is, unless they are being lied to
		want := f.platform.State().Revision()
		f.tamper.set(nil)
		require.NoError(f.t, f.sidecars[0].WaitFor(testContext(f.t), want))
	default:
		f.platform.RandomWrite(f.roll)
	}
}

func (f *testFleet) end() {
	for _, s := range f.sidecars {
		s.stop()
	}
	require.NoError(f.t, f.server.Stop(context.Background()))
	f.http.Close()
}
