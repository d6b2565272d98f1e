package bundles_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/usher-authz/usher/admin/bundles"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// platform is a Source whose state the test sets.
type platform struct {
	mu      sync.Mutex
	state   policies.PlatformData
	changed chan struct{}
	head    func() (policies.Revision, error) // the state's revision if nil
}

var _ bundles.Source = (*platform)(nil)

func newPlatform() *platform { return &platform{changed: make(chan struct{})} }

func (p *platform) set(state policies.PlatformData) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *platform) State() policies.PlatformData {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *platform) WaitFor(ctx context.Context, rev policies.Revision) error {
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		if state != nil && state.Revision() >= rev {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *platform) Head(context.Context) (policies.Revision, error) {
	if p.head != nil {
		return p.head()
	}
	return p.State().Revision(), nil
}

func policyInForce(t *testing.T) policies.PolicyInForce {
	t.Helper()
	policy, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	return policy
}

func vectors(t *testing.T) []policiestest.Vector {
	t.Helper()
	all, err := policiestest.Vectors()
	require.NoError(t, err)
	return all
}

// stateOf is a platform of these documents alone.
func stateOf(t *testing.T, revision policies.Revision, policy policies.PolicyInForce, documents ...policies.Document) policies.PlatformData {
	t.Helper()
	state, err := policiestest.NewDocumentsPlatform(revision, policy, documents...)
	require.NoError(t, err)
	return state
}

// fixture is a handler on a platform. Build counts are read off its metrics.
type fixture struct {
	*platform
	policy  policies.PolicyInForce
	world   policies.Document
	key     *signing.Key
	handler *bundles.Handler
	metrics *prometheus.Registry
}

func setup(t *testing.T, interval time.Duration) fixture {
	t.Helper()
	f := fixture{
		platform: newPlatform(), metrics: prometheus.NewRegistry(),
		policy: policyInForce(t), world: vectors(t)[0].Document,
	}
	var err error
	f.key, err = signing.Generate()
	require.NoError(t, err)
	f.handler, err = bundles.New(bundles.Options{
		Key: f.key, Source: f.platform, MinInterval: interval, Registerer: f.metrics, Logger: slog.New(slog.DiscardHandler),
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusInternalServerError
			if _, ok := errors.AsType[*policies.MalformedError](err); ok {
				status = http.StatusBadRequest
			}
			if _, ok := errors.AsType[*authz.UnavailableError](err); ok {
				status = http.StatusServiceUnavailable
			}
			if _, ok := errors.AsType[*authz.RevisionError](err); ok {
				status = http.StatusServiceUnavailable
			}
			http.Error(w, err.Error(), status)
		},
	})
	require.NoError(t, err)
	return f
}

// stateAt is the fixture's world at a revision.
func (f fixture) stateAt(t *testing.T, revision policies.Revision) policies.PlatformData {
	t.Helper()
	return stateOf(t, revision, f.policy, f.world)
}

// setAfter sets the state in a while.
func (f fixture) setAfter(d time.Duration, state policies.PlatformData) {
	go func() {
		<-time.After(d)
		f.set(state)
	}()
}

func (f fixture) get(t *testing.T, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/bundles/usher.tar.gz", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f fixture) builds(t *testing.T) uint64 {
	t.Helper()
	families, err := f.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "usher_bundles_build_seconds" {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}

func requireRevision(t *testing.T, w *httptest.ResponseRecorder, want policies.Revision) {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	contents, err := policies.ReadBundle(bytes.NewReader(w.Body.Bytes()))
	require.NoError(t, err)
	require.Equal(t, want, contents.Revision())
}

func TestGet(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	f.set(f.stateAt(t, 5))
	first := f.get(t)
	requireRevision(t, first, 5)
	require.Equal(t, "application/gzip", first.Header().Get("Content-Type"))
	etag := first.Header().Get("ETag")
	require.Regexp(t, `^"[0-9a-f.]+"$`, etag)

	// A stock OPA sends an empty If-None-Match first.
	requireRevision(t, f.get(t, "If-None-Match", ""), 5)
	require.Equal(t, uint64(1), f.builds(t), "the same revision is not built twice")

	// Without a tag, never older than the request, however short ago the last was built.
	f.set(f.stateAt(t, 6))
	second := f.get(t)
	requireRevision(t, second, 6)
	require.NotEqual(t, etag, second.Header().Get("ETag"))
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Nanosecond)
	f.set(f.stateAt(t, 5))
	old := f.get(t).Header().Get("ETag")
	f.set(f.stateAt(t, 6))
	present := f.get(t).Header().Get("ETag")

	for name, tags := range map[string][]string{
		"the present one":    {present},
		"weak":               {"W/" + present},
		"first of several":   {present + `, ` + old},
		"last of several":    {old + `,"other", ` + present},
		"in a second header": {old, present},
		"any":                {"*"},
	} {
		var header []string
		for _, tag := range tags {
			header = append(header, "If-None-Match", tag)
		}
		w := f.get(t, header...)
		require.Equal(t, http.StatusNotModified, w.Code, name)
		require.Equal(t, present, w.Header().Get("ETag"), name)
		require.Empty(t, w.Body.Bytes(), name)
	}
	for name, tag := range map[string]string{"older": old, "another server's": `"abc"`, "rubbish": `,,"`, "not quoted": "r5"} {
		requireRevision(t, f.get(t, "If-None-Match", tag), 6)
		_ = name
	}
}

// TestReplicaBehind: a consumer that has been at a newer replica is not taken
// back, and a 304 never names a version that it has not got.
func TestReplicaBehind(t *testing.T) {
	t.Parallel()
	ahead, behind := setup(t, time.Nanosecond), setup(t, time.Nanosecond)
	ahead.set(ahead.stateAt(t, 9))
	behind.set(behind.stateAt(t, 8))
	tag := ahead.get(t).Header().Get("ETag")
	w := behind.get(t, "If-None-Match", tag)
	require.Equal(t, http.StatusNotModified, w.Code)
	require.Equal(t, tag, w.Header().Get("ETag"))
}

// TestAnotherKey: of the same revision there is another bundle once another key signs,
// and a consumer gets it.
func TestAnotherKey(t *testing.T) {
	t.Parallel()
	before, after := setup(t, time.Nanosecond), setup(t, time.Nanosecond)
	before.set(before.stateAt(t, 8))
	after.set(after.stateAt(t, 8))
	tag := before.get(t).Header().Get("ETag")
	w := after.get(t, "If-None-Match", tag)
	requireRevision(t, w, 8)
	require.NotEqual(t, tag, w.Header().Get("ETag"))
}

func TestMinIntervalIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, 5*time.Second)
		f.set(f.stateAt(t, 1))
		tag := f.get(t).Header().Get("ETag")

		// New, but too soon: without a wait 304, which names what the poll has.
		f.set(f.stateAt(t, 2))
		w := f.get(t, "If-None-Match", tag)
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Equal(t, tag, w.Header().Get("ETag"))

		// With a wait that is too short, the same, at its end.
		begin := time.Now()
		w = f.get(t, "If-None-Match", tag, "Prefer", "wait=2")
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Equal(t, 2*time.Second, time.Since(begin))

		// With a longer one, as soon as it may be built; many polls, one build.
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				// As OPA asks: with the tags of bundles that it had before, and modes.
				w := f.get(t, "If-None-Match", `"other", `+tag, "Prefer", "modes=snapshot,delta;wait=60")
				if i == 0 {
					requireRevision(t, w, 2)
				}
				require.Equal(t, http.StatusOK, w.Code)
			})
		}
		wg.Wait()
		require.Equal(t, 5*time.Second, time.Since(begin))
		require.Equal(t, uint64(2), f.builds(t))

		// And in a storm of changes, one build every interval.
		states := make([]policies.PlatformData, 600)
		for i := range states {
			states[i] = f.stateAt(t, policies.Revision(3+i))
		}
		storm, stop := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(storm)
			for _, state := range states {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					f.set(state)
				}
			}
		}()
		end := time.Now().Add(52 * time.Second)
		for range 5 {
			wg.Go(func() {
				for tag := tag; time.Now().Before(end); {
					w := f.get(t, "If-None-Match", tag, "Prefer", "wait=60")
					tag = w.Header().Get("ETag")
				}
			})
		}
		wg.Wait()
		close(stop)
		<-storm
		require.LessOrEqual(t, f.builds(t), uint64(2+11))
		require.GreaterOrEqual(t, f.builds(t), uint64(2+10))
	})
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, time.Second)
		f.set(f.stateAt(t, 1))

		// The first of a long-polling OPA is answered at once, and told to go on so.
		opa := []string{"If-None-Match", "", "Prefer", "modes=snapshot,delta;wait=30"}
		begin := time.Now()
		w := f.get(t, opa...)
		requireRevision(t, w, 1)
		require.Equal(t, "application/vnd.openpolicyagent.bundles", w.Header().Get("Content-Type"))
		require.Equal(t, "wait=30", w.Header().Get("Preference-Applied"))
		require.Zero(t, time.Since(begin))
		opa[1] = w.Header().Get("ETag")

		// Nothing new: 304 at the end of the wait.
		w = f.get(t, opa...)
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Equal(t, 30*time.Second, time.Since(begin))

		// Something new: at once.
		f.setAfter(7*time.Second, f.stateAt(t, 2))
		begin = time.Now()
		w = f.get(t, opa...)
		requireRevision(t, w, 2)
		require.Equal(t, 7*time.Second, time.Since(begin))
		opa[1] = w.Header().Get("ETag")

		// A server that stops, and a consumer that goes away, end the wait.
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/bundles/usher.tar.gz", nil)
		r.Header.Set("If-None-Match", opa[1])
		r.Header.Set("Prefer", "wait=9999999")
		begin = time.Now()
		done := make(chan struct{})
		w = httptest.NewRecorder()
		go func() {
			defer close(done)
			f.handler.ServeHTTP(w, r)
		}()
		synctest.Wait()
		cancel()
		<-done
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Equal(t, opa[1], w.Header().Get("ETag"))
		require.Zero(t, time.Since(begin))

		// The longest wait is bounded.
		begin = time.Now()
		require.Equal(t, http.StatusNotModified, f.get(t, "If-None-Match", "*", "Prefer", "wait=9999999").Code)
		require.Equal(t, policies.MaxBundleWait, time.Since(begin))
	})
}

func TestPreferThatIsNoWait(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	f.set(f.stateAt(t, 1))
	for _, prefer := range []string{"modes=snapshot,delta", "wait=0", "wait=-1", "wait=x", "wait", "respond-async"} {
		w := f.get(t, "Prefer", prefer)
		require.Equal(t, "application/gzip", w.Header().Get("Content-Type"), prefer)
		require.Empty(t, w.Header().Get("Preference-Applied"), prefer)
	}
}

// TestNotOlderThanTheRequest: a write that another replica acknowledged is waited
// for.
func TestNotOlderThanTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, time.Hour)
		f.set(f.stateAt(t, 1))
		f.head = func() (policies.Revision, error) { return 2, nil }
		f.setAfter(time.Second, f.stateAt(t, 2))
		requireRevision(t, f.get(t), 2)

		// So is a revision that the caller asks for, in a poll too.
		f.setAfter(time.Second, f.stateAt(t, 3))
		requireRevision(t, f.get(t, "If-None-Match", `"x"`, "Usher-Min-Revision", "3"), 3)

		w := f.get(t, "Usher-Min-Revision", "4")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Contains(t, w.Body.String(), "revision 4 is not here yet: the latest is 3")
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	t.Run("no state", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := setup(t, time.Hour)
			f.head = func() (policies.Revision, error) { return 0, nil }
			require.Equal(t, http.StatusServiceUnavailable, f.get(t).Code)
			require.Equal(t, http.StatusServiceUnavailable, f.get(t, "If-None-Match", `"x"`, "Prefer", "wait=1").Code)
		})
	})
	t.Run("the database is down", func(t *testing.T) {
		t.Parallel()
		f := setup(t, time.Hour)
		f.set(f.stateAt(t, 1))
		f.head = func() (policies.Revision, error) { return 0, &authz.UnavailableError{Reason: "no database"} }
		require.Equal(t, http.StatusServiceUnavailable, f.get(t).Code)
		// A poll needs no database.
		requireRevision(t, f.get(t, "If-None-Match", `"x"`), 1)
	})
	t.Run("a bad request", func(t *testing.T) {
		t.Parallel()
		f := setup(t, time.Hour)
		f.set(f.stateAt(t, 1))
		require.Equal(t, http.StatusBadRequest, f.get(t, "Usher-Min-Revision", "-1").Code)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/bundles/usher.tar.gz?dry_run=true", nil)
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.Code)
	})
	t.Run("a build that fails", func(t *testing.T) {
		t.Parallel()
		f := setup(t, time.Hour)
		f.set(broken{f.stateAt(t, 1)})
		require.Equal(t, http.StatusInternalServerError, f.get(t).Code)
		f.set(f.stateAt(t, 2))
		requireRevision(t, f.get(t), 2)
	})
}

// broken cannot be compiled.
type broken struct{ policies.PlatformData }

func (broken) PlatformID() string { return "\xff" }

func TestHead(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	f.set(f.stateAt(t, 1))
	mux := http.NewServeMux()
	mux.Handle(bundles.Pattern, f.handler)
	server := httptest.NewServer(mux)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+"/v1/bundles/usher.tar.gz", nil)
	require.NoError(t, err)
	resp, err := server.Client().Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Empty(t, body)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("ETag"))
	require.Positive(t, resp.ContentLength)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := bundles.New(bundles.Options{MinInterval: -1})
	require.ErrorContains(t, err, "Source is required")
	require.ErrorContains(t, err, "Fail is required")
	require.ErrorContains(t, err, "must not be negative")
}
