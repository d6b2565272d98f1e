package authz

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

const (
	actionView  = "environment.control.GetEnvInfo"
	actionStart = "environment.control.StartEnv"
)

// company is a small platform: the owner shares its environments "app" (with mia,
// as a viewer, until ends), and all of them (with max, as a starter).
func company(tb testing.TB, p *Policy, ends *time.Time) []policies.Object {
	tb.Helper()
	doc := policies.Document{
		Account:      policies.Account{ID: "owner"},
		Groups:       []policies.Group{{ID: "team"}, {ID: "squad", Parent: new(policies.GroupID("team"))}},
		Environments: []policies.Environment{{ID: "app", Groups: []policies.GroupID{"squad"}}, {ID: "db", Groups: []policies.GroupID{}}},
		Roles: []policies.Role{
			{ID: "viewer", Name: "Viewer", Policies: []policies.PolicyID{"environment.view"}},
			{ID: "starter", Name: "Starter", Policies: []policies.PolicyID{"environment.start", "environment.view"}},
		},
		Members: []policies.DocumentMember{
			{
				Account: policies.DocumentAccount{ID: new(policies.AccountID("mia")), Email: "mia"}, Status: policies.StatusActive,
				Grants: []policies.Grant{{Resource: environmentApp, Roles: []policies.RoleID{"viewer"}, ExpiresAt: ends}},
			},
			{
				Account: policies.DocumentAccount{ID: new(policies.AccountID("max")), Email: "max"}, Status: policies.StatusActive,
				Grants: []policies.Grant{{Resource: allEnvironments, Roles: []policies.RoleID{"starter"}}},
			},
		},
	}
	return objectsOf(tb, p, []policies.Document{doc})
}

var (
	environmentApp  = policies.Resource{Type: policies.TypeEnvironment, ID: "app"}
	allEnvironments = policies.Resource{Type: policies.TypeEnvironments, ID: "owner"}
)

func mayOn(subject, action, environment string) Question {
	return Question{SubjectType: "account", Subject: subject, Action: action, ResourceType: "environment", ResourceID: environment}
}

// companyEngine is an engine with the company in force at revision 1.
func companyEngine(tb testing.TB, o Options, ends *time.Time) *Engine {
	tb.Helper()
	p := embeddedPolicy(tb)
	e := newTestEngine(tb, o)
	require.NoError(tb, e.Reset(buildState(tb, p, testHeader(1), company(tb, p, ends))))
	return e
}

func check(tb testing.TB, e *Engine, q Question) Decision {
	tb.Helper()
	d, err := e.Check(context.Background(), 0, q)
	require.NoError(tb, err)
	return d
}

// grantChange is the change that gives mia these roles on app, or takes them.
func grantChange(tb testing.TB, s *State, roles ...policies.RoleID) policies.Change {
	tb.Helper()
	key := policies.GrantKey{Member: memberID("owner", "mia"), Resource: environmentApp}
	if len(roles) == 0 {
		return changeAfter(tb, s, object(tb, policies.KindGrant, "owner", key.String(), nil))
	}
	return changeAfter(tb, s, object(tb, policies.KindGrant, "owner", key.String(), policies.GrantBody{Roles: roles}))
}

func TestUnavailableBeforeTheFirstState(t *testing.T) {
	t.Parallel()
	e := newTestEngine(t, Options{})
	require.Nil(t, e.State())
	var unavailable *UnavailableError
	_, err := e.Check(context.Background(), 0, mayOn("mia", actionView, "app"))
	require.ErrorAs(t, err, &unavailable)
	_, err = e.Decide(context.Background(), 0, nil)
	require.ErrorAs(t, err, &unavailable)
	_, err = e.Effective(context.Background(), "mia", environmentApp)
	require.ErrorAs(t, err, &unavailable)
	_, err = e.Explain(context.Background(), "mia", environmentApp)
	require.ErrorAs(t, err, &unavailable)
	require.ErrorAs(t, e.Apply(context.Background(), policies.Change{}), &unavailable)
}

func TestOptionsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := New(Options{CacheLimit: -1})
	require.ErrorContains(t, err, "negative")
	registry := prometheus.NewRegistry()
	_, err = New(Options{Registerer: registry})
	require.NoError(t, err)
	_, err = New(Options{Registerer: registry})
	require.ErrorContains(t, err, "register the metrics")
}

func TestMinRevisionWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := companyEngine(t, Options{}, nil)
		var answers sync.WaitGroup
		for range 10 {
			answers.Go(func() {
				d, err := e.Check(context.Background(), 2, mayOn("mia", actionStart, "app"))
				require.NoError(t, err)
				require.True(t, d.Allow)
				require.Equal(t, policies.Revision(2), d.Revision)
			})
		}
		synctest.Wait() // all wait
		require.NoError(t, e.Apply(context.Background(), grantChange(t, e.State(), "starter")))
		answers.Wait()
	})
}

func TestMinRevisionThatDoesNotCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := companyEngine(t, Options{MinRevisionWait: 3 * time.Second}, nil)
		start := time.Now()
		_, err := e.Decide(context.Background(), 5, []Question{mayOn("mia", actionView, "app")})
		var late *RevisionError
		require.ErrorAs(t, err, &late)
		require.Equal(t, RevisionError{Want: 5, Have: 1}, *late)
		require.Equal(t, 3*time.Second, time.Since(start))

		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = e.Check(ctx, 5, mayOn("mia", actionView, "app"))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, e.WaitFor(ctx, 5), context.Canceled)
		require.NoError(t, e.WaitFor(ctx, 1))

		hasty := companyEngine(t, Options{MinRevisionWait: -1}, nil)
		start = time.Now()
		_, err = hasty.Check(context.Background(), 2, mayOn("mia", actionView, "app"))
		require.ErrorAs(t, err, &late)
		require.Zero(t, time.Since(start))
	})
}

func TestResetRefusesToGoBack(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	first := e.State()
	require.NoError(t, e.Apply(context.Background(), grantChange(t, first, "starter")))
	second := e.State()
	var back *RollbackError
	require.ErrorAs(t, e.Reset(first), &back)
	require.Equal(t, RollbackError{Have: 2, Got: 1}, *back)
	var foreign *PlatformError
	other := buildState(t, first.Policy(), Header{Platform: "other", Revision: 9}, company(t, first.Policy(), nil))
	require.ErrorAs(t, e.Reset(other), &foreign)
	require.Same(t, second, e.State())
	require.NoError(t, e.Reset(second))
}

// A snapshot that says otherwise at a later revision, or in another epoch, is
// believed at once: nothing cached survives it.
func TestResetDropsTheCache(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	require.True(t, check(t, e, mayOn("mia", actionView, "app")).Allow)
	p := e.State().Policy()
	var without []policies.Object
	for _, o := range company(t, p, nil) {
		if o.Kind != policies.KindGrant {
			without = append(without, o)
		}
	}
	require.NoError(t, e.Reset(buildState(t, p, testHeader(policies.NewRevision(1, 0)), without)))
	d := check(t, e, mayOn("mia", actionView, "app"))
	require.Equal(t, policies.ReasonNotShared, d.Reason)
	require.Equal(t, policies.NewRevision(1, 0), d.Revision)
}

func TestGrantsEndByTheClock(t *testing.T) {
	t.Parallel()
	clock := newTestClock()
	ends := testStart.Add(time.Hour)
	e := companyEngine(t, Options{Clock: clock.now}, &ends)
	q := mayOn("mia", actionView, "app")
	d := check(t, e, q)
	require.True(t, d.Allow)
	require.Equal(t, "2030-01-01T13:00:00Z", d.ValidUntil)
	clock.advance(time.Hour - time.Nanosecond)
	require.True(t, check(t, e, q).Allow)
	clock.advance(time.Nanosecond)
	require.Equal(t, policies.ReasonNotShared, check(t, e, q).Reason)
	clock.advance(-time.Nanosecond) // set back, by hand: the grant lives again
	require.True(t, check(t, e, q).Allow)
}

// The heartbeat's time counts where the clock is behind, and only there.
func TestGrantsEndByTheHeartbeat(t *testing.T) {
	t.Parallel()
	clock, log, ends, q := newTestClock(), &bytes.Buffer{}, testStart.Add(time.Hour), mayOn("mia", actionView, "app")
	e := companyEngine(t, Options{Clock: clock.now, Logger: slog.New(slog.NewTextHandler(log, nil))}, &ends)
	e.Observe(testStart.Add(-time.Second))
	require.Equal(t, testStart.UnixNano(), e.Now().UnixNano())
	require.True(t, check(t, e, q).Allow)
	require.Empty(t, log.String())
	e.Observe(ends)
	e.Observe(testStart)
	require.Equal(t, ends.UnixNano(), e.Now().UnixNano())
	require.Equal(t, policies.ReasonNotShared, check(t, e, q).Reason)
	require.Contains(t, log.String(), "the clock is not the admin server's")
	clock.advance(2 * time.Hour)
	require.Equal(t, clock.now().UnixNano(), e.Now().UnixNano())
}

// Grants may end after int64 nanoseconds do, in 2262.
func TestGrantsThatEndFarAway(t *testing.T) {
	t.Parallel()
	for _, ends := range []time.Time{
		time.Date(2262, 4, 11, 23, 47, 16, 854_775_000, time.UTC),
		time.Date(2262, 4, 11, 23, 47, 17, 0, time.UTC),
		time.Date(2997, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	} {
		clock := newTestClock()
		e := companyEngine(t, Options{Clock: clock.now}, &ends)
		q := mayOn("mia", actionView, "app")
		for range 3 {
			d := check(t, e, q)
			require.True(t, d.Allow)
			require.Equal(t, policies.FormatTime(ends), d.ValidUntil)
			clock.advance(90 * 365 * 24 * time.Hour)
		}
		require.Equal(t, 1, e.cache.len())
	}
}

// What is not there is evaluated each time, and takes no room in the cache.
func TestUnknownIsNotCached(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	for i := range 20 {
		require.Equal(t, policies.ReasonUnknownSubject, check(t, e, mayOn(fmt.Sprint("nobody", i), actionView, "app")).Reason)
		require.Equal(t, policies.ReasonUnknownResource, check(t, e, mayOn("mia", actionView, fmt.Sprint("nothing", i))).Reason)
		q := mayOn("mia", actionView, "app")
		q.SubjectType = "robot"
		require.Equal(t, policies.ReasonUnknownSubject, check(t, e, q).Reason)
	}
	require.Zero(t, e.cache.len())
	d := check(t, e, mayOn("mia", "environment.control.Typo", "app"))
	require.Equal(t, Decision{Reason: policies.ReasonUnknownAction, Owner: "owner", Revision: 1}, d)
	require.Equal(t, policies.ReasonUnknownAction, check(t, e, mayOn("owner", "environment.control.Typo", "app")).Reason)
}

// counts are the metrics of a registry that are one number, histograms by count.
func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// A burst of checks on one cold question is one evaluation; explaining it is
// another each time.
func TestOneEvaluationForABurst(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	e := companyEngine(t, Options{Registerer: registry}, nil)
	var burst sync.WaitGroup
	start := make(chan struct{})
	for range 64 {
		burst.Go(func() {
			<-start
			require.True(t, check(t, e, mayOn("mia", actionView, "app")).Allow)
		})
	}
	close(start)
	burst.Wait()
	require.InDelta(t, 1, counts(t, registry)["usher_engine_evaluation_seconds"], 0)
	q := mayOn("mia", actionView, "app")
	q.Explain = true
	for range 3 {
		require.NotNil(t, check(t, e, q).Levels)
	}
	got := counts(t, registry)
	require.InDelta(t, 4, got["usher_engine_evaluation_seconds"], 0)
	require.InDelta(t, 1, got["usher_engine_cache_entries"], 0)
	require.InDelta(t, 64, got["usher_engine_cache_hits_total"]+got["usher_engine_cache_misses_total"], 0)
	require.InDelta(t, 1, got["usher_engine_revision"], 0)
	require.InDelta(t, 3, got["usher_engine_accounts"], 0)
	require.Zero(t, got["usher_engine_evaluation_failures_total"])
}

func TestEffectiveAndExplain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := companyEngine(t, Options{}, nil)
	want, err := e.State().Policy().Effective(ctx, e.State(), e.Now(), "max", environmentApp)
	require.NoError(t, err)
	require.Equal(t, policies.LevelBase, want.Level)
	require.Equal(t, []string{"Starter"}, want.Roles)
	require.Len(t, want.Policies, 2)
	for range 2 { // evaluated, then from the cache
		got, err := e.Effective(ctx, "max", environmentApp)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	x, err := e.Explain(ctx, "max", environmentApp)
	require.NoError(t, err)
	require.Equal(t, *want, x.Effective)
	require.Equal(t, &Levels{Direct: []string{}, SharedEnvGroups: []GroupRoles{}, Base: []string{"Starter"}}, x.Levels)
	owner, err := e.Explain(ctx, "owner", environmentApp)
	require.NoError(t, err)
	require.Equal(t, policies.ReasonOwner, owner.Reason)
	require.Nil(t, owner.Levels)
	none, err := e.Effective(ctx, "nobody", environmentApp)
	require.NoError(t, err)
	require.Equal(t, policies.ReasonUnknownSubject, none.Reason)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{CacheLimit: 2}, nil)
	for range 3 {
		for _, subject := range []string{"mia", "max", "owner"} {
			for _, environment := range []string{"app", "db"} {
				check(t, e, mayOn(subject, actionView, environment))
			}
		}
	}
	require.LessOrEqual(t, e.cache.len(), 2)
}

func TestCachedCheckDoesNotAllocate(t *testing.T) {
	e := companyEngine(t, Options{Registerer: prometheus.NewRegistry()}, nil)
	ctx := context.Background()
	questions := []Question{
		mayOn("mia", actionView, "app"), mayOn("mia", actionStart, "app"), mayOn("owner", actionView, "app"),
		mayOn("mia", actionView, "db"), mayOn("max", actionStart, "db"), mayOn("mia", "environment.control.Typo", "app"),
	}
	for _, q := range questions {
		check(t, e, q)
	}
	// Also the first look after a change, which did not touch them.
	role := object(t, policies.KindToken, "", "t", policies.TokenBody{Hash: "h", Scopes: []policies.Scope{}})
	require.NoError(t, e.Apply(ctx, changeAfter(t, e.State(), role)))
	misses := func() float64 { return counts(t, registryOf(e))["usher_engine_cache_misses_total"] }
	before := misses()
	allocations := testing.AllocsPerRun(1000, func() {
		for _, q := range questions {
			if _, err := e.Check(ctx, 1, q); err != nil {
				t.Fatal(err)
			}
		}
	})
	require.Zero(t, allocations)
	require.InDelta(t, before, misses(), 0)
}

// registryOf gives a registry with the engine's counter of misses.
func registryOf(e *Engine) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(e.metrics.misses)
	return r
}

// What a snapshot on disk was confirmed by tells how late it is at least, and nothing of
// the clock: a sidecar that was away for hours has a good one.
func TestRecalledHeartbeatIsNoSkew(t *testing.T) {
	t.Parallel()
	clock, log, ends, q := newTestClock(), &bytes.Buffer{}, testStart.Add(time.Hour), mayOn("mia", actionView, "app")
	e := companyEngine(t, Options{Clock: clock.now, Logger: slog.New(slog.NewTextHandler(log, nil))}, &ends)
	e.Recall(testStart.Add(-time.Hour))
	require.True(t, check(t, e, q).Allow)
	e.Recall(ends) // the clock was set back since
	require.Equal(t, policies.ReasonNotShared, check(t, e, q).Reason)
	require.Empty(t, log.String())
	var skew dto.Metric
	require.NoError(t, e.skew.Write(&skew))
	require.Zero(t, skew.GetGauge().GetValue())
}
