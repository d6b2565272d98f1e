package feed

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

func TestSnapshotThenChanges(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"), feedtest.Account(t, "b"))
	p.WriteEnvironments("a", "e", 50)
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	require.NoError(t, s.feed.WaitReady(testContext(t)))
	s.reaches(t, p.State())

	p.WriteEnvironments("b", "f", 200)
	p.Write(feedtest.Object(t, policies.KindEnvironment, "a", "e7", nil))
	s.reaches(t, p.State())

	status := s.feed.Status()
	require.True(t, status.Connected)
	require.True(t, status.Ready)
	require.Equal(t, uint64(1), status.Connects)
	require.Empty(t, status.Refusals)
	require.Equal(t, "p", status.Platform)
	require.Equal(t, p.State().Revision(), status.Revision)
	age, ok := s.feed.Age()
	require.True(t, ok)
	require.Less(t, age, patience)
	require.Equal(t, 1, value(t, r.server.metrics.snapshots))
}

func TestResumeWithoutSnapshot(t *testing.T) {
	t.Parallel()
	for name, ring := range map[string]int{"from the ring": 0, "from the log": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			r := newReplica(t, p, func(o *Options) { o.RingSize = ring })
			s := newSidecar(t, r.http.URL, nil)
			s.reaches(t, p.State())
			s.stop()
			r.alone(t)
			p.WriteEnvironments("a", "e", 700)
			r.fed(t)
			again := runSidecar(t, s.Engine, r.http.URL, nil)
			again.reaches(t, p.State())
			require.Equal(t, 1, value(t, r.server.metrics.snapshots))
		})
	}
}

func TestResumeTooFarBehindGetsASnapshot(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.RingSize, o.MaxReplay = 5, 20 })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	s.stop()
	r.alone(t)
	p.WriteEnvironments("a", "e", 100)
	r.fed(t)
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	again.reaches(t, p.State())
	require.Equal(t, 2, value(t, r.server.metrics.snapshots))
	require.Empty(t, again.feed.Status().Refusals)
}

func TestUnreachableLogGivesASnapshot(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.RingSize = 1 })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	s.stop()
	r.alone(t)
	p.WriteEnvironments("a", "e", 30)
	r.fed(t)
	p.SetFault(errors.New("the database is down"))
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	again.reaches(t, p.State())
	require.Equal(t, 2, value(t, r.server.metrics.snapshots))

	// The follower does not give up either.
	p.WriteEnvironments("a", "f", 3)
	p.SetFault(nil)
	again.reaches(t, p.State())
}

func TestNewEpochDropsEverything(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "kept", 3)
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	restored := p.State().Revision()
	p.WriteEnvironments("a", "lost", 3)
	s.reaches(t, p.State())

	p.Restore(restored, feedtest.Environment(t, "a", "after"))
	s.reaches(t, p.State())
	require.Equal(t, uint64(1), s.State().Revision().Epoch())
	require.Empty(t, s.feed.Status().Refusals)
	require.Equal(t, uint64(1), s.feed.Status().Connects, "the same connection serves the new epoch")

	p.WriteEnvironments("a", "more", 3)
	s.reaches(t, p.State())
}

func TestNewEpochThatLostNothingIsAChange(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	p.Restore(p.State().Revision(), feedtest.Environment(t, "a", "after"))
	s.reaches(t, p.State())
	require.Equal(t, 1, value(t, r.server.metrics.snapshots))
}

func TestOtherPlatformIsRefused(t *testing.T) {
	t.Parallel()
	ours := feedtest.New(t, "ours", feedtest.Account(t, "a"))
	s := newSidecar(t, newReplica(t, ours, nil).http.URL, nil)
	s.reaches(t, ours.State())
	s.stop()
	good := s.State()

	theirs := feedtest.New(t, "theirs", feedtest.Account(t, "mallory"))
	theirs.WriteEnvironments("mallory", "e", 9)
	r := newReplica(t, theirs, nil)
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	eventually(t, "the server's 409 is a refusal", func() bool { return again.feed.Status().Refusals[wire.RefusedPlatform] > 0 })
	require.Same(t, good, again.State())
	again.stop()

	// A server that does not look at the platform of the asker is told by its first
	// heartbeat, whose revision and time count for nothing.
	r.tamper.swap(withoutQuery(r.tamper.next))
	third := runSidecar(t, s.Engine, r.http.URL, nil)
	eventually(t, "the heartbeat is refused", func() bool { return third.feed.Status().Refusals[wire.RefusedPlatform] > 1 })
	require.Same(t, good, third.State())
	require.False(t, third.feed.Ready())

	ours.Write(feedtest.Account(t, "b"))
	r.tamper.swap(newReplica(t, ours, nil).tamper)
	third.reaches(t, ours.State())
	require.NoError(t, third.feed.WaitReady(testContext(t)))
}

func withoutQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = ""
		next.ServeHTTP(w, r)
	})
}

func TestReplicaThatIsBehindTheAsker(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "e", 3)
	s := newSidecar(t, newReplica(t, p, nil).http.URL, nil)
	s.reaches(t, p.State())
	s.stop()

	slow := feedtest.New(t, "p", feedtest.Account(t, "a")) // the same history, not as far
	r := newReplica(t, slow, func(o *Options) { o.CatchUpWait = 20 * time.Millisecond })
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	eventually(t, "the server says that it is behind", func() bool {
		return value(t, r.server.metrics.refusals.WithLabelValues("503")) > 1
	})
	require.Empty(t, again.feed.Status().Refusals)
	require.False(t, again.feed.Ready())
	slow.WriteEnvironments("a", "e", 4)
	again.reaches(t, slow.State())
	require.NoError(t, again.feed.WaitReady(testContext(t)))
	require.Equal(t, 0, value(t, r.server.metrics.snapshots))
}

func TestGoingBackWithinAnEpochIsRefused(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "e", 3)
	s := newSidecar(t, newReplica(t, p, nil).http.URL, nil)
	s.reaches(t, p.State())
	s.stop()
	good := s.State()

	old := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, old, nil)
	r.tamper.swap(withoutQuery(r.tamper.next)) // or it would say that it is behind
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	eventually(t, "the old server is refused", func() bool { return again.feed.Status().Refusals[wire.RefusedRollback] > 1 })
	require.Same(t, good, again.State())

	// As soon as it is where it should be, it is followed, without a hand.
	old.WriteEnvironments("a", "e", 5)
	again.reaches(t, old.State())
}

func TestAnotherHistoryOfOneEpoch(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	p.WriteEnvironments("a", "e", 3)
	r := newReplica(t, p, nil)
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	good := s.State()
	p.Rewrite(p.State().Revision()-1, feedtest.Environment(t, "a", "other"))
	s.stop()
	again := runSidecar(t, s.Engine, r.http.URL, nil)
	eventually(t, "the same revision with another hash is refused", func() bool {
		return again.feed.Status().Refusals[wire.RefusedAltered] > 0
	})
	require.Same(t, good, again.State())
	p.WriteEnvironments("a", "f", 1)
	again.reaches(t, p.State())
}

func TestAdminRestarts(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	first := newReplica(t, p, nil)
	url := first.http.URL
	address := strings.TrimPrefix(url, "http://")
	s := newSidecar(t, url, nil)
	s.reaches(t, p.State())
	require.NoError(t, first.server.Stop(testContext(t)))
	eventually(t, "the client sees the end", func() bool { return !s.feed.Status().Connected })
	first.http.Close()
	p.WriteEnvironments("a", "e", 10)

	second := newReplica(t, p, nil)
	second.listenAgain(t, address)
	s.reaches(t, p.State())
	require.Empty(t, s.feed.Status().Refusals, "an orderly end is no refusal")
	require.Equal(t, 0, value(t, second.server.metrics.snapshots))
}

func TestStateFromElsewhereIsResumed(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	onDisk := p.State()
	p.WriteEnvironments("a", "e", 5)
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	require.NoError(t, engine.Reset(onDisk))
	r := newReplica(t, p, func(o *Options) { o.RingSize = 1 })
	s := runSidecar(t, engine, r.http.URL, nil)
	s.reaches(t, p.State())
	require.Equal(t, 0, value(t, r.server.metrics.snapshots))
}

// stubbornSink does not take one change.
type stubbornSink struct {
	*authz.Engine
	fail policies.Revision
}

func (s *stubbornSink) Apply(ctx context.Context, c policies.Change) error {
	if c.Revision == s.fail {
		return errors.New("cannot apply this")
	}
	return s.Engine.Apply(ctx, c)
}

func TestSinkThatCannotApplyGetsASnapshot(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	engine, err := authz.New(authz.Options{})
	require.NoError(t, err)
	s := runSidecar(t, engine, r.http.URL, func(o *wire.Options) {
		o.Sink = &stubbornSink{Engine: engine, fail: p.State().Revision() + 2}
	})
	s.reaches(t, p.State())
	p.WriteEnvironments("a", "e", 5)
	s.reaches(t, p.State())
	require.Equal(t, map[wire.RefusalKind]uint64{wire.RefusedUnusable: 1}, s.feed.Status().Refusals)
	require.Equal(t, 2, value(t, r.server.metrics.snapshots))
}

// lagging is a source whose log is ahead of its state.
type lagging struct {
	Source
	state *authz.State
}

func (l *lagging) State() *authz.State { return l.state }

// TestLogAheadOfTheState: a sidecar may come to be ahead of the replica's own
// engine, and the heartbeats do not go back behind what it was sent.
func TestLogAheadOfTheState(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.Source = &lagging{Source: o.Source, state: p.State()} })
	s := newSidecar(t, r.http.URL, nil)
	s.reaches(t, p.State())
	p.WriteEnvironments("a", "e", 5)
	s.reaches(t, p.State())
	first, _ := s.feed.Age()
	eventually(t, "another heartbeat is taken", func() bool {
		age, _ := s.feed.Age()
		defer func() { first = age }()
		return age < first
	})
	require.Empty(t, s.feed.Status().Refusals)
	require.Equal(t, uint64(1), s.feed.Status().Connects)
}
