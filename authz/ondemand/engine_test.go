package ondemand

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/rego"
)

func TestMain(m *testing.M) {
	// go-redis goes on for up to a second after a client was closed, if its server
	// was gone, to see whether that is back.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// patience bounds what tests wait for.
const patience = 30 * time.Second

// testClock is a clock that tests set.
type testClock struct{ at atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.at.Store(testTime.UnixNano())
	return c
}

func (c *testClock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *testClock) advance(d time.Duration) { c.at.Add(int64(d)) }

// testRedis is a redis-server of its own for one test.
func testRedis(tb testing.TB) *redisserver.Server {
	tb.Helper()
	s, err := redisserver.Start(tb.Context(), redisserver.Options{})
	require.NoError(tb, err)
	require.NotZero(tb, s.PID(), "tests need a redis-server")
	tb.Cleanup(func() { require.NoError(tb, s.Stop(context.Background())) })
	return s
}

// testClient talks to s beside the engine.
func testClient(tb testing.TB, s *redisserver.Server) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(s.URL())
	require.NoError(tb, err)
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

var testKeys = [][]byte{[]byte("0123456789abcdef0123456789abcdef")} //nolint:gochecknoglobals // never written

// testOptions are of an engine of a over s, which may be nil.
func testOptions(tb testing.TB, a *testAdmin, s *redisserver.Server, clock *testClock) Options {
	tb.Helper()
	o := Options{
		redisTimeout: patience, FeedURL: a.server.URL, Clock: clock.now, RedisKeys: testKeys, Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if s != nil {
		var err error
		o.Redis, err = ParseRedisURL(s.URL())
		require.NoError(tb, err)
	}
	return o
}

// startEngine runs an engine until the test ends or stop is called, and waits until
// it is ready.
func startEngine(tb testing.TB, o Options) (e *Engine, stop func()) {
	tb.Helper()
	e, err := New(o)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.CompareAndSwap(false, true) {
			cancel()
			require.NoError(tb, <-done)
		}
	}
	tb.Cleanup(stop)
	eventually(tb, func() bool { return e.Ready() == nil })
	return e, stop
}

// eventually waits until ok.
func eventually(tb testing.TB, ok func() bool) {
	tb.Helper()
	require.Eventually(tb, ok, patience, time.Millisecond)
}

// flushFills returns once what e has learned is in Redis.
func flushFills(tb testing.TB, e *Engine) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(tb, e.filler.flush(ctx))
}

// testPolicy is the policy of this program, compiled.
func testPolicy(tb testing.TB) *authz.Policy {
	tb.Helper()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(tb, err)
	return policyOf(tb, catalogue)
}

func policyOf(tb testing.TB, c policies.Catalogue) *authz.Policy {
	tb.Helper()
	source, err := policies.NewPolicyInForce(c, rego.Modules())
	require.NoError(tb, err)
	p, err := authz.NewPolicy(context.Background(), source)
	require.NoError(tb, err)
	return p
}

// guardedPolicy is testPolicy with the guardrails of tests.
func guardedPolicy(tb testing.TB) *authz.Policy {
	tb.Helper()
	source, err := testPolicy(tb).Source().WithGuardrails(policiestest.Guardrails())
	require.NoError(tb, err)
	p, err := authz.NewPolicy(context.Background(), source)
	require.NoError(tb, err)
	return p
}

func object(tb testing.TB, kind policies.Kind, owner policies.AccountID, id string, body any) policies.Object {
	tb.Helper()
	o, err := policies.NewObject(kind, owner, id, body)
	require.NoError(tb, err)
	return o
}

// objectsOf are the objects of a platform with these documents.
func objectsOf(tb testing.TB, docs []policies.Document) []policies.Object {
	tb.Helper()
	var all []policies.Object
	known := map[policies.AccountID]bool{}
	for _, d := range docs {
		known[d.Account.ID] = true
	}
	for _, d := range docs {
		objects, err := d.Objects()
		require.NoError(tb, err)
		all = append(all, objects...)
		for _, m := range d.Members {
			if id := m.Account.ID; id != nil && !known[*id] {
				known[*id] = true
				all = append(all, object(tb, policies.KindAccount, "", string(*id), policies.AccountBody{}))
			}
		}
	}
	return all
}

// stateOf is a state with these documents at a revision.
func stateOf(tb testing.TB, p *authz.Policy, revision policies.Revision, docs []policies.Document) *authz.State {
	tb.Helper()
	b := authz.NewBuilder(authz.Header{Platform: "test/platform % " + tb.Name(), Revision: revision, Hash: sha256.Sum256([]byte(revision.String()))})
	b.Reuse(p)
	require.NoError(tb, b.Add(object(tb, policies.KindPolicyInForce, "", "policy_in_force", p.Source())))
	for _, o := range objectsOf(tb, docs) {
		require.NoError(tb, b.Add(o))
	}
	s, err := b.Build(context.Background())
	require.NoError(tb, err)
	return s
}

func asQuestion(q policiestest.Question) authz.Question {
	return authz.Question{
		SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action, ResourceType: q.ResourceType, ResourceID: q.ResourceID,
		Request: &authz.Request{Context: jsontext.Value(q.Context), ResourceProperties: jsontext.Value(q.Properties)},
	}
}

// expected is the model's answer as a decision at a revision.
func expected(a policiestest.Answer, r policies.Revision) authz.Decision {
	return authz.Decision{
		Allow: a.Decision, Reason: a.Reason, Level: a.Level, Roles: a.Roles, Policies: a.Policies,
		Owner: a.Owner, Revision: r, ValidUntil: a.ValidUntil, Guardrail: a.Guardrail, Observed: a.Observed,
	}
}

// check asks e, which must answer.
func check(tb testing.TB, e *Engine, q authz.Question) authz.Decision {
	tb.Helper()
	d, err := e.Check(tb.Context(), 0, q)
	require.NoError(tb, err)
	return d
}

// requireTruth holds d against Rego over the whole state of its revision.
func requireTruth(tb testing.TB, a *testAdmin, now time.Time, q authz.Question, d authz.Decision) {
	tb.Helper()
	s := a.at(tb, d.Revision)
	want, err := s.Policy().Decision(context.Background(), s, now, q)
	require.NoError(tb, err)
	require.Empty(tb, cmp.Diff(want, d), "%+v at revision %d", q, d.Revision)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	p, s := testPolicy(t), testRedis(t)
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	for i, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			clock := newTestClock()
			a := newTestAdmin(t, stateOf(t, p, policies.Revision(100*(i+1)), []policies.Document{v.Document}))
			e, _ := startEngine(t, testOptions(t, a, s, clock))
			model := policiestest.Model{Catalogue: p.Source().Catalogue, Documents: []policies.Document{v.Document}}
			for _, c := range v.Checks {
				for range 2 { // fetched, then from memory
					d := check(t, e, asQuestion(c.Question()))
					got := policiestest.VectorCheck{
						Subject: c.Subject, Action: c.Action, Resource: c.Resource,
						Decision: d.Allow, Reason: d.Reason, Level: d.Level, Roles: d.Roles, Policies: d.Policies,
					}
					require.Empty(t, cmp.Diff(c, got), "%s: %s", v.Name, v.Why)
					require.Empty(t, cmp.Diff(expected(model.Check(c.Question(), clock.now()), e.Revision()), d))
				}
			}
		})
	}
}
