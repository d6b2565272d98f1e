package feed

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

const patience = 30 * time.Second

// nobody is a sink on demand that takes everything.
type nobody struct{}

func (nobody) Begin(Beginning) error { return nil }
func (nobody) Notice(Notice) error   { return nil }
func (nobody) Observe(time.Time)     {}

func startClient(tb testing.TB, o Options) *Client {
	tb.Helper()
	if o.RetryMin == 0 {
		o.RetryMin, o.RetryMax = time.Millisecond, 5*time.Millisecond
	}
	if o.Notices == nil {
		o.Notices = nobody{}
	}
	c, err := New(o)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return c
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick, end := time.NewTicker(2*time.Millisecond), time.NewTimer(patience)
	defer tick.Stop()
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			require.FailNow(tb, "this did not come true: "+what)
		}
	}
}

func serve(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(handler)
	tb.Cleanup(s.Close)
	return s.URL
}

// lines is a stream of frames, ended by a flush that the client sees at once.
func lines(tb testing.TB, frames ...Frame) []byte {
	tb.Helper()
	var out []byte
	for _, f := range frames {
		var err error
		out, err = AppendFrame(out, f)
		require.NoError(tb, err)
		out = append(out, '\n')
	}
	return out
}

// beginning is an empty snapshot at a revision, as frames.
func beginning(tb testing.TB, platform string, revision policies.Revision) []Frame {
	tb.Helper()
	hash := hashOf(revision.String())
	header := &Snapshot{Platform: platform, Revision: revision, Hash: hash, Time: testTime, After: revision, AfterHash: hash}
	line, err := AppendFrame(nil, header)
	require.NoError(tb, err)
	return []Frame{&Heartbeat{Platform: platform, Revision: revision, Hash: hash, Time: testTime}, header, NewTally(line).End()}
}

func TestOptionsAreValidated(t *testing.T) {
	t.Parallel()
	_, err := New(Options{URL: "ftp://x", Replay: MaxReplay + 1, Silence: -1})
	require.ErrorContains(t, err, "http[s]://HOST")
	require.ErrorContains(t, err, "exactly one of Sink and Notices")
	require.ErrorContains(t, err, "the replay is")
	require.ErrorContains(t, err, "negative")
	for _, url := range []string{"", "x", "http://", "http://u:secret@x", "http://x?y=z", "http://x#y", "http://x\x00"} {
		_, err := New(Options{URL: url, Notices: nobody{}})
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "secret")
	}
	registry := prometheus.NewRegistry()
	_, err = New(Options{URL: "http://x/below", Notices: nobody{}, Registerer: registry})
	require.NoError(t, err)
	_, err = New(Options{URL: "http://x", Notices: nobody{}, Registerer: registry})
	require.ErrorContains(t, err, "duplicate metrics collector registration")
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	c := startClient(t, Options{URL: serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	eventually(t, "it runs", func() bool { return c.running.Load() })
	require.ErrorContains(t, c.Run(context.Background()), "runs already")
}

// TestWhatTheServerIsAsked: the token, the mode, the place to resume from, and no
// redirect.
func TestWhatTheServerIsAsked(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []*http.Request
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Clone(context.Background()))
		nth := len(asked)
		mu.Unlock()
		if nth == 1 {
			http.Redirect(w, r, elsewhere, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", ContentType+"; charset=utf-8")
		_, _ = w.Write(lines(t, beginning(t, "p", 5)...))
	})
	var log policiestest.Output
	c := startClient(t, Options{
		URL: url + "/below/", Token: "ush_secret", Replay: 17,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, c.WaitReady(testContext(t)))
	eventually(t, "it resumes", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) >= 3
	})
	mu.Lock()
	defer mu.Unlock()
	for _, r := range asked {
		require.Equal(t, "/below"+StreamPath, r.URL.Path)
		require.Equal(t, "Bearer ush_secret", r.Header.Get("Authorization"))
	}
	require.Equal(t, "mode=notices&replay=17", asked[1].URL.RawQuery)
	require.Equal(t, "hash="+hashOf("5").String()+"&mode=notices&platform=p&replay=17&revision=5", asked[2].URL.RawQuery)
	require.NotContains(t, log.String(), "secret")
	require.Equal(t, policies.Revision(5), c.Status().Revision)
}

func TestAnswersThatAreNoStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   RefusalKind
	}{
		"another type": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, RefusedMalformed},
		"another encoding": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Encoding", "br")
		}, RefusedMalformed},
		"not compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Encoding", "zstd")
			_, _ = w.Write([]byte("this is not zstd at all"))
		}, RefusedMalformed},
		"not compressed either": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("this is not gzip at all"))
		}, RefusedMalformed},
		"compressed and cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Encoding", "zstd")
			z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			_, _ = z.Write(lines(t, beginning(t, "p", 5)...))
			_ = z.Flush()
		}, RefusedTruncated},
		"an altered byte in what is compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Encoding", "zstd")
			var out bytes.Buffer
			z, _ := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
			_, _ = z.Write(bytes.Repeat(lines(t, beginning(t, "p", 5)[:1]...), 100))
			_ = z.Close()
			out.Bytes()[out.Len()-1] ^= 1
			_, _ = w.Write(out.Bytes())
		}, RefusedMalformed},
		"another platform": {func(w http.ResponseWriter, _ *http.Request) {
			problem.Problem{Type: problem.OtherPlatform, Status: http.StatusConflict}.Write(w)
		}, RefusedPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := startClient(t, Options{URL: serve(t, c.answer)})
			eventually(t, "it is refused", func() bool { return client.Status().Refusals[c.want] > 0 })
			require.Len(t, client.Status().Refusals, 1)
		})
	}
}

func TestStatusErrors(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		problem.Problem{Type: problem.Forbidden, Status: http.StatusForbidden, Detail: "no", RetryAfter: 90 * time.Second}.Write(w)
	})
	c, err := New(Options{URL: url, Notices: nobody{}})
	require.NoError(t, err)
	_, err = c.connect(t.Context())
	var status *StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusForbidden, status.Status)
	require.Equal(t, problem.Forbidden, status.Problem.Type)
	require.Equal(t, 90*time.Second, status.RetryAfter)
	require.EqualError(t, err, "the server answered 403 Forbidden: no")
	c.transport.CloseIdleConnections()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ContentType)
		_, _ = w.Write(lines(t, beginning(t, "p", 5)...))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(s.Close)
	stranger := startClient(t, Options{URL: s.URL})
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	trusting := startClient(t, Options{URL: s.URL, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}})
	require.NoError(t, trusting.WaitReady(testContext(t)))
	require.False(t, stranger.Ready())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, stranger.WaitReady(ctx), context.Canceled)
}

func TestLookupAnswersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	const head = `{"platform":"p","revision":5,"hash":"0000000000000000000000000000000000000000000000000000000000000000"`
	good := head + `,"accounts":{"a":{"changed":3,"unchanged":true}},"owners":{"group:g":null},"subjects":{"s":false}}`
	for name, body := range map[string]string{
		"not JSON":            `{`,
		"duplicate":           strings.Replace(good, `"revision":5`, `"revision":5,"revision":5`, 1),
		"no platform":         strings.Replace(good, `"platform":"p"`, `"platform":""`, 1),
		"too old":             strings.Replace(good, `"revision":5`, `"revision":4`, 1),
		"no account":          strings.Replace(good, `"a":{`, `"b":{`, 1),
		"no owner":            strings.Replace(good, `"group:g"`, `"group:h"`, 1),
		"no subject":          strings.Replace(good, `"s":`, `"t":`, 1),
		"neither":             strings.Replace(good, `,"unchanged":true`, ``, 1),
		"changed in the end":  strings.Replace(good, `"changed":3`, `"changed":6`, 1),
		"changed since":       strings.Replace(good, `"changed":3`, `"changed":5`, 1),
		"cut short":           good[:len(good)-1],
		"with something else": good + good,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := New(Options{Notices: nobody{}, URL: serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })})
			require.NoError(t, err)
			_, err = c.Lookup(t.Context(), LookupRequest{
				Min: 5, Accounts: []LookupAccountRequest{{ID: "a", Since: 4}},
				Resources: []policies.Resource{{Type: policies.TypeGroup, ID: "g"}}, Subjects: []policies.AccountID{"s"},
			})
			var answer *AnswerError
			require.ErrorAs(t, err, &answer)
			require.Error(t, errors.Unwrap(answer))
			c.transport.CloseIdleConnections()
		})
	}
}

// pipes is a network within the process, whose time is a test's.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipes"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p <- theirs
	return ours, nil
}

// An answer may take as long as it takes, if something comes of it all the time.
func TestOnlySilenceEndsALookup(t *testing.T) {
	t.Parallel()
	const answer = `{"platform":"p","revision":5,"hash":"0000000000000000000000000000000000000000000000000000000000000000",` +
		`"accounts":{},"owners":{},"subjects":{"s":true}}`
	const silence = 3 * time.Second
	for name, c := range map[string]struct {
		comes int // bytes, one after the other
		took  time.Duration
		err   error
	}{
		"slow":                     {len(answer), time.Duration(len(answer)) * silence / 2, nil},
		"silent in the middle":     {7, 6*silence/2 + silence, errNoAnswer},
		"silent from the first on": {0, silence, errNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := make(pipes)
				server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the client is gone
					for i := range c.comes {
						_, _ = io.WriteString(w, answer[i:i+1])
						_ = http.NewResponseController(w).Flush()
						time.Sleep(silence / 2) //nolint:forbidigo // the time is that of the bubble
					}
					if c.comes < len(answer) {
						<-r.Context().Done()
					}
				})}
				go func() { _ = server.Serve(network) }()
				client, err := New(Options{Notices: nobody{}, URL: "http://admin", Dial: network.dial, Silence: silence})
				require.NoError(t, err)
				began := time.Now()
				found, err := client.Lookup(t.Context(), LookupRequest{Subjects: []policies.AccountID{"s"}})
				require.ErrorIs(t, err, c.err)
				require.Equal(t, err == nil, found.Subjects["s"])
				require.Equal(t, c.took, time.Since(began))
				client.transport.CloseIdleConnections()
				require.NoError(t, server.Close())
			})
		})
	}
}

// A server that is started anew leaves dead connections: that is no reason to fail.
func TestALookupSurvivesItsConnection(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	c, err := New(Options{Notices: nobody{}, URL: serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			gone, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = gone.Close()
			}
			return
		}
		_, _ = fmt.Fprint(w, `{"platform":"p","revision":5,"hash":"0000000000000000000000000000000000000000000000000000000000000000",`+
			`"accounts":{},"owners":{},"subjects":{"s":true}}`)
	})})
	require.NoError(t, err)
	for range 2 {
		found, err := c.Lookup(t.Context(), LookupRequest{Subjects: []policies.AccountID{"s"}})
		require.NoError(t, err)
		require.True(t, found.Subjects["s"])
	}
	require.EqualValues(t, 3, asked.Load())
	c.transport.CloseIdleConnections()
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	epoch := policies.NewRevision(1, 0)
	for _, c := range []struct {
		since, changed, revision policies.Revision
		want                     bool
	}{
		{5, 5, 9, true}, {9, 5, 9, true},
		{4, 5, 9, false},                // changed since
		{10, 5, 9, false},               // known at a later revision than this
		{0, 0, 9, false},                // not known at all
		{9, 5, epoch + 1, false},        // revision 9 may have been lost
		{epoch + 1, 5, epoch + 2, true}, // the change is of the epoch before
	} {
		require.Equal(t, c.want, Unchanged(c.since, c.changed, c.revision), "%+v", c)
	}
}

// scripted serves one script a connection, the last one again and again, and holds
// each connection open until the client leaves.
func scripted(tb testing.TB, scripts ...[]byte) string {
	tb.Helper()
	var nth atomic.Int64
	return serve(tb, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ContentType)
		_, _ = w.Write(scripts[min(int(nth.Add(1)), len(scripts))-1])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
}

// TestLieAboutTheRevision: a server's word about where it is holds for its own
// connection only.
func TestLieAboutTheRevision(t *testing.T) {
	t.Parallel()
	lie := &Heartbeat{Platform: "p", Revision: policies.MaxRevision, Hash: hashOf("lie"), Time: testTime}
	c := startClient(t, Options{URL: scripted(t, append(lines(t, lie), "garbage\n"...), lines(t, beginning(t, "p", 5)...))})
	require.NoError(t, c.WaitReady(testContext(t)))
	require.Equal(t, policies.Revision(5), c.Status().Revision)
	eventually(t, "it is fresh", func() bool {
		_, ok := c.Age()
		return ok
	})
}

// TestNoticesMustLeadToTheSnapshot: a history that is sound in itself, but not that
// of the snapshot, is refused, and the next connection begins anew.
func TestNoticesMustLeadToTheSnapshot(t *testing.T) {
	t.Parallel()
	header := &Snapshot{Platform: "p", Revision: 6, Hash: hashOf("6"), Time: testTime, After: 5, AfterHash: hashOf("5")}
	line, err := AppendFrame(nil, header)
	require.NoError(t, err)
	notice := &Notice{Revision: 6, Time: testTime, BodiesHash: hashOf("bodies"), AuditHash: hashOf("audit")}
	notice.Hash = policies.ChainHash(header.AfterHash, 6, notice.BodiesHash, notice.AuditHash)
	require.NoError(t, notice.Follows(5, hashOf("5")))
	forged := lines(t, &Heartbeat{Platform: "p", Revision: 6, Hash: hashOf("6"), Time: testTime}, header, NewTally(line).End(), notice)
	c := startClient(t, Options{URL: scripted(t, forged, lines(t, beginning(t, "p", 6)...))})
	require.NoError(t, c.WaitReady(testContext(t)))
	require.Equal(t, map[RefusalKind]uint64{RefusedAltered: 1}, c.Status().Refusals)
	require.Equal(t, policies.Revision(6), c.Status().Revision)
}

// TestNothingIsReportedBeforeItIsAnsweredFrom: while notices lead up to a beginning, what
// is answered from is what was before it.
func TestNothingIsReportedBeforeItIsAnsweredFrom(t *testing.T) {
	t.Parallel()
	last, notices := hashOf("4"), []Frame{}
	for revision := policies.Revision(5); revision <= 6; revision++ {
		n := &Notice{Revision: revision, Time: testTime, BodiesHash: hashOf("bodies"), AuditHash: hashOf("audit")}
		n.Hash = policies.ChainHash(last, revision, n.BodiesHash, n.AuditHash)
		last, notices = n.Hash, append(notices, n)
	}
	header := &Snapshot{Platform: "p", Revision: 6, Hash: last, Time: testTime, After: 4, AfterHash: hashOf("4")}
	line, err := AppendFrame(nil, header)
	require.NoError(t, err)
	more := make(chan struct{})
	c := startClient(t, Options{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ContentType)
		_, _ = w.Write(lines(t, &Heartbeat{Platform: "p", Revision: 6, Hash: last, Time: testTime}, header, NewTally(line).End(), notices[0]))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
		_, _ = w.Write(lines(t, notices[1]))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})})
	eventually(t, "the first notice is taken", func() bool { return c.Status().Revision == 5 })
	_, answering := c.progress.answersFrom()
	require.False(t, answering)
	close(more)
	eventually(t, "the beginning is reached", func() bool {
		revision, answering := c.progress.answersFrom()
		return answering && revision == 6
	})
}
