package feed

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
)

// pipes is a listener in memory, for tests in which time is not real.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.done)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fakeTime runs f in a bubble with a handler behind pipes.
func fakeTime(t *testing.T, handler func(t *testing.T) http.Handler, f func(t *testing.T, dial *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := newPipes()
		server := &http.Server{Handler: handler(t), ReadHeaderTimeout: time.Second}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		f(t, listener)
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}

// bubbled is a client in a bubble, with time's own defaults.
func bubbled(t *testing.T, o wire.Options, listener *pipes) (*wire.Client, func()) {
	t.Helper()
	o.URL, o.Dial = "http://admin", listener.dial
	client, err := wire.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	return client, func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func TestAnHourOfHeartbeats(t *testing.T) {
	t.Parallel()
	tm := &tamper{}
	var s *Server
	fakeTime(t, func(t *testing.T) http.Handler {
		t.Helper()
		var err error
		s, err = New(Options{Source: feedtest.New(t, "p", feedtest.Account(t, "a"))})
		require.NoError(t, err)
		require.NoError(t, s.Start(t.Context()))
		tm.next = http.HandlerFunc(s.ServeFeed)
		return tm
	}, func(t *testing.T, listener *pipes) {
		t.Helper()
		engine, err := authz.New(authz.Options{})
		require.NoError(t, err)
		client, stop := bubbled(t, wire.Options{Sink: engine}, listener)
		require.NoError(t, client.WaitReady(t.Context()))
		<-time.After(time.Hour)
		status := client.Status()
		require.Equal(t, uint64(1), status.Connects)
		require.Empty(t, status.Refusals)
		age, ok := client.Age()
		require.True(t, ok)
		require.LessOrEqual(t, age, time.Second)

		// From here on the line is dead: nothing comes, and TCP does not tell.
		tm.set(func() lineChanger { return func([]byte) ([][]byte, bool) { return nil, false } })
		stop()
		client, stop = bubbled(t, wire.Options{Sink: engine}, listener)
		<-time.After(30 * time.Second)
		status = client.Status()
		require.False(t, client.Ready())
		require.Empty(t, status.Refusals)
		require.GreaterOrEqual(t, status.Connects, uint64(4), "each is given up after three seconds, with growing pauses")
		require.LessOrEqual(t, status.Connects, uint64(10))
		tm.set(nil)
		require.NoError(t, client.WaitReady(t.Context()))
		stop()
		require.NoError(t, s.Stop(t.Context()))
	})
}

func TestPausesGrow(t *testing.T) {
	t.Parallel()
	var asked []time.Time
	fakeTime(t, func(*testing.T) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked = append(asked, time.Now())
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}, func(t *testing.T, listener *pipes) {
		t.Helper()
		engine, err := authz.New(authz.Options{})
		require.NoError(t, err)
		client, stop := bubbled(t, wire.Options{Sink: engine, Token: "ush_secret"}, listener)
		<-time.After(time.Minute)
		stop()
		require.False(t, client.Ready())
		require.Less(t, len(asked), 40)
		require.Greater(t, len(asked), 10)
		require.Less(t, asked[1].Sub(asked[0]), 200*time.Millisecond)
		require.Greater(t, asked[len(asked)-1].Sub(asked[len(asked)-2]), 2*time.Second)
	})
}

// TestHeldBackChanges: someone lets heartbeats through, and nothing else.
func TestHeldBackChanges(t *testing.T) {
	t.Parallel()
	tm := &tamper{}
	var s *Server
	var p *feedtest.Platform
	fakeTime(t, func(t *testing.T) http.Handler {
		t.Helper()
		p = feedtest.New(t, "p", feedtest.Account(t, "a"))
		var err error
		s, err = New(Options{Source: p})
		require.NoError(t, err)
		require.NoError(t, s.Start(t.Context()))
		tm.next = http.HandlerFunc(s.ServeFeed)
		tm.set(fault{on: wire.TypeChange, line: func(int, []byte) ([][]byte, bool) { return nil, false }}.lines)
		return tm
	}, func(t *testing.T, listener *pipes) {
		t.Helper()
		engine, err := authz.New(authz.Options{})
		require.NoError(t, err)
		client, stop := bubbled(t, wire.Options{Sink: engine}, listener)
		require.NoError(t, client.WaitReady(t.Context()))
		p.Write(feedtest.Account(t, "b"))
		<-time.After(6 * time.Second)
		require.NotZero(t, client.Status().Refusals[wire.RefusedWithheld])
		age, _ := client.Age()
		require.Greater(t, age, 4*time.Second, "it knows how old it is")
		tm.set(nil)
		require.NoError(t, engine.WaitFor(t.Context(), 2))
		stop()
		require.NoError(t, s.Stop(t.Context()))
	})
}
