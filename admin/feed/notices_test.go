package feed

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

func noticeClient(tb testing.TB, url string, sink *noticed, replay int) (*wire.Client, func()) {
	tb.Helper()
	return runClient(tb, wire.Options{
		URL: url, Notices: sink, Replay: replay, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond, Logger: testLogger(tb),
	})
}

func (n *noticed) reaches(tb testing.TB, revision policies.Revision) {
	tb.Helper()
	eventually(tb, "the notice of revision "+revision.String(), func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.notices) > 0 {
			return n.notices[len(n.notices)-1].Revision >= revision
		}
		return len(n.begun) > 0 && n.begun[len(n.begun)-1].Revision >= revision
	})
}

func (n *noticed) beginnings() []wire.Beginning {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]wire.Beginning(nil), n.begun...)
}

func span(from, to policies.Revision) []policies.Revision {
	var all []policies.Revision
	for r := from; r <= to; r++ {
		all = append(all, r)
	}
	return all
}

func TestNoticesBeginAndFollow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		ring, replay int
		after        policies.Revision
	}{
		{"none", 100, -1, 31},
		{"from the ring", 100, 10, 21},
		{"from the log", 5, 10, 22}, // the log has the hash of revision 22, and not of 21 without it
		{"more than there is", 100, 1000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			r := newReplica(t, p, func(o *Options) { o.RingSize = c.ring })
			r.fed(t)
			p.WriteEnvironments("a", "e", 30)
			r.fed(t)
			sink := &noticed{}
			client, _ := noticeClient(t, r.http.URL, sink, c.replay)
			require.NoError(t, client.WaitReady(testContext(t)))
			p.Write(feedtest.Account(t, "b"))
			sink.reaches(t, 32)
			begun := sink.beginnings()
			require.Len(t, begun, 1)
			require.Equal(t, wire.Position{Platform: "p", Revision: 31, Hash: p.At(31).Hash()}, begun[0].Position)
			require.Equal(t, c.after, begun[0].After)
			require.Len(t, begun[0].Objects, 2, "the policy in force and a token")
			require.Equal(t, span(c.after+1, 32), sink.revisions())
			require.Equal(t, policies.Revision(32), client.Status().Revision)
		})
	}
}

func TestNoticesName(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"), feedtest.Account(t, "b"), feedtest.Environment(t, "a", "e"))
	r := newReplica(t, p, nil)
	sink := &noticed{}
	client, _ := noticeClient(t, r.http.URL, sink, -1)
	require.NoError(t, client.WaitReady(testContext(t)))
	token := feedtest.Object(t, policies.KindToken, "", "t9", feedtest.Token("9"))
	change := p.Write(
		feedtest.Object(t, policies.KindEnvironment, "a", "e", nil),
		feedtest.Environment(t, "b", "e"),
		feedtest.Object(t, policies.KindGroup, "b", "g", policies.GroupBody{}),
		feedtest.Account(t, "c"),
		token,
	)
	sink.reaches(t, change.Revision)
	notice := sink.notices[0]
	require.Equal(t, []policies.AccountID{"a", "b", "c"}, notice.Owners)
	require.Equal(t, []string{"environment:e", "group:g"}, notice.IDs)
	require.Equal(t, []policies.AccountID{"c"}, notice.Subjects)
	require.Equal(t, []policies.Object{token}, notice.Objects)
	require.True(t, change.Time.Equal(notice.Time))
}

func TestNoticesHistoryHasNoObjects(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p")
	p.Write(feedtest.Object(t, policies.KindToken, "", "token-1", nil))
	r := newReplica(t, p, nil)
	sink := &noticed{}
	client, _ := noticeClient(t, r.http.URL, sink, 0)
	require.NoError(t, client.WaitReady(testContext(t)))
	p.Write(feedtest.Object(t, policies.KindToken, "", "t2", feedtest.Token("2")))
	sink.reaches(t, 3)
	require.Len(t, sink.begun[0].Objects, 1)
	require.Equal(t, policies.Revision(1), sink.begun[0].After)
	require.Empty(t, sink.notices[0].Objects)
	require.Len(t, sink.notices[1].Objects, 1)
}

func TestNoticesResume(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) { o.RingSize = 3 })
	sink := &noticed{}
	client, _ := noticeClient(t, r.http.URL, sink, -1)
	require.NoError(t, client.WaitReady(testContext(t)))
	for i := range 5 {
		r.http.CloseClientConnections()
		p.WriteEnvironments("a", "e"+string(rune('a'+i)), 20)
		sink.reaches(t, p.State().Revision())
	}
	require.Len(t, sink.beginnings(), 1)
	require.Equal(t, span(2, 101), sink.revisions())
	require.Greater(t, client.Status().Connects, uint64(1))
}

func TestNoticesBeginAnew(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(*replica, *noticed){
		"after a restore": func(r *replica, _ *noticed) { r.Restore(2) },
		"in a new epoch that lost nothing": func(r *replica, _ *noticed) {
			r.Restore(r.State().Revision())
		},
		"when the sink cannot go on": func(r *replica, sink *noticed) {
			sink.mu.Lock()
			sink.refuse = errors.New("cannot take this")
			sink.mu.Unlock()
			r.Write()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			p.WriteEnvironments("a", "e", 5)
			r := newReplica(t, p, nil)
			sink := &noticed{}
			client, _ := noticeClient(t, r.http.URL, sink, 0)
			require.NoError(t, client.WaitReady(testContext(t)))
			happens(r, sink)
			eventually(t, "it begins anew", func() bool { return len(sink.beginnings()) == 2 })
			require.Equal(t, p.State().Hash(), sink.beginnings()[1].Hash)
			p.WriteEnvironments("a", "f", 3)
			sink.reaches(t, p.State().Revision())
		})
	}
}

func TestNoticesFaults(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{
		{"altered hash", wire.TypeNotice, at(1, replaced(`"audit_hash":"`, `"audit_hash":"0`)), wire.RefusedMalformed},
		{"dropped notice", wire.TypeNotice, at(1, dropped), wire.RefusedOutOfOrder},
		{"repeated notice", wire.TypeNotice, at(1, doubled), wire.RefusedRollback},
		{"another revision's bodies", wire.TypeNotice, at(1, func(line []byte) ([][]byte, bool) {
			const name = `"bodies_hash":"`
			_, rest, _ := cutLine(line, name)
			return replaced(name+rest[:8], name+"00000000")(line)
		}), wire.RefusedAltered},
		{"a change", wire.TypeNotice, at(1, instead(`{"type":"change","revision":3,"time":"2030-01-01T00:00:00Z","objects":[]}`+"\n")), wire.RefusedMalformed},
		{"an account in the snapshot", wire.TypeObject, at(1, replaced(`"kind":"token"`, `"kind":"account"`)), wire.RefusedMalformed},
		{"after is ahead", wire.TypeSnapshot, at(0, replaced(`"after":1`, `"after":99`)), wire.RefusedMalformed},
		{"after has another hash", wire.TypeSnapshot, at(0, func(line []byte) ([][]byte, bool) {
			const name = `"after_hash":"`
			_, rest, _ := cutLine(line, name)
			return replaced(name+rest[:8], name+"00000000")(line)
		}), wire.RefusedAltered},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := feedtest.New(t, "p", feedtest.Account(t, "a"))
			p.WriteEnvironments("a", "e", 5)
			r := newReplica(t, p, nil)
			r.fed(t)
			r.tamper.set(f.lines)
			sink := &noticed{}
			client, _ := noticeClient(t, r.http.URL, sink, 0)
			// Replayed from the log: the ring began at the present.
			eventually(t, "it is refused", func() bool { return client.Status().Refusals[f.want] > 0 })
			r.tamper.set(nil)
			p.WriteEnvironments("a", "f", 2)
			sink.reaches(t, p.State().Revision())
		})
	}
}
