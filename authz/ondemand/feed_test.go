package ondemand

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

func TestMinRevisionWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.MinRevisionWait = patience })
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	f.admin.mute(true)
	least := f.grant(t, "ben", "e-ben", nil)
	var d authz.Decision
	var err error
	var work sync.WaitGroup
	work.Go(func() { d, err = f.engine.Check(t.Context(), least, question("e-ben")) })
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow) // an older revision is well for others
	f.admin.mute(false)
	work.Wait()
	require.NoError(t, err)
	require.False(t, d.Allow)
	require.Equal(t, least, d.Revision)
}

func TestMinRevisionThatDoesNotComeIsAnError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.MinRevisionWait = time.Millisecond })
	_, err := f.engine.Check(t.Context(), firstID+1, question("e-ben"))
	var late *authz.RevisionError
	require.ErrorAs(t, err, &late)
	require.Equal(t, authz.RevisionError{Want: firstID + 1, Have: firstID}, *late)
	require.InDelta(t, 1, valueOf(f.engine.metrics.late), 0)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.engine.options.MinRevisionWait = patience
	_, err = f.engine.Check(ctx, firstID+1, question("e-ben"))
	require.ErrorIs(t, err, context.Canceled)
}

// TestAnEntryOfALaterRevisionWaits lets another sidecar be ahead.
func TestAnEntryOfALaterRevisionWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.admin.mute(true)
	later := f.grant(t, "ben", "e-ben", nil)
	ahead := f.another(t, func(o *Options) { o.Replay = -1 })
	require.Equal(t, later, ahead.Revision())
	require.False(t, f.ask(t, ahead, question("e-ben")).Allow)
	flushFills(t, ahead)

	var d authz.Decision
	var err error
	var work sync.WaitGroup
	work.Go(func() { d, err = f.engine.Check(t.Context(), 0, question("e-ben")) })
	eventually(t, func() bool { return counted(f.engine, layerRedis, kindPermissions, outcomeAhead) == 1 })
	f.admin.mute(false)
	work.Wait()
	require.NoError(t, err)
	require.False(t, d.Allow)
	require.Equal(t, later, d.Revision)
}

// TestWhatTheFeedDoesNotBringIsUnavailable lets the admin be ahead of the feed for
// longer than anybody waits.
func TestWhatTheFeedDoesNotBringIsUnavailable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.MinRevisionWait = 10 * time.Millisecond })
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow)
	f.admin.mute(true)
	f.grant(t, "ben", "e-ben", nil)
	_, err := f.engine.Check(t.Context(), 0, question("e-ben"))
	var missing *authz.UnavailableError
	require.ErrorAs(t, err, &missing)
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow) // what is at hand is answered on
	f.admin.mute(false)
	eventually(t, func() bool { return f.engine.Revision() > firstID })
	require.False(t, f.ask(t, f.engine, question("e-ben")).Allow)
}

func TestAdminGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow)
	other := f.another(t, nil)
	flushFills(t, f.engine)
	f.admin.down.Store(true)

	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow, "from memory")
	require.True(t, f.ask(t, other, question("e-anna")).Allow, "from Redis")
	eventually(t, func() bool {
		_, err := f.engine.Check(t.Context(), 0, question("e-ben"))
		var missing *authz.UnavailableError
		require.ErrorAs(t, err, &missing)
		return breakerState(f.engine, layerAdmin) == 2
	})
	// A batch is answered whole or not at all.
	_, err := f.engine.Decide(t.Context(), 0, []authz.Question{question("e-anna"), question("e-ben")})
	require.Error(t, err)

	f.admin.down.Store(false)
	eventually(t, func() bool {
		_, err := f.engine.Check(t.Context(), 0, question("e-ben"))
		return err == nil
	})
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
}

// TestARestartFindsRedisWarm restarts after changes to one of two accounts.
func TestARestartFindsRedisWarm(t *testing.T) {
	t.Parallel()
	questions := []authz.Question{question("e-anna"), question("e-ben"), question("f-anna")}
	for name, replay := range map[string]int{"with notices since": 0, "without": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nil)
			for _, q := range questions {
				f.ask(t, f.engine, q)
			}
			flushFills(t, f.engine)
			f.stop()
			f.grant(t, "ben", "e-ben", nil)
			full := f.admin.inFull.Load()

			e := f.another(t, func(o *Options) { o.Replay = replay })
			require.True(t, f.ask(t, e, questions[0]).Allow)
			require.False(t, f.ask(t, e, questions[2]).Allow)
			require.Equal(t, full, f.admin.inFull.Load(), "anna's account was left alone")
			require.False(t, f.ask(t, e, questions[1]).Allow)
			require.Equal(t, full+1, f.admin.inFull.Load())
			require.Zero(t, counted(e, layerEvaluation, kindPermissions, outcomeError))
			require.Equal(t, 1, counted(e, layerEvaluation, kindPermissions, outcomeHit), "ben's alone")
		})
	}
}

// TestForgottenNoticesAskTheAdmin overflows the index.
func TestForgottenNoticesAskTheAdmin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.IndexLimit = 2 })
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow)
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	var r policies.Revision
	for _, id := range []string{"one", "two", "three"} {
		r = f.admin.change(t, object(t, policies.KindAccount, "", id, policies.AccountBody{}))
	}
	r = max(r, f.grant(t, "ben", "e-ben", nil))
	reached(t, f.engine, r)
	_, floor := f.engine.remembered()
	require.Greater(t, floor, firstID)
	full := f.admin.inFull.Load()
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow)
	require.Equal(t, full, f.admin.inFull.Load(), "unchanged is enough")
	require.False(t, f.ask(t, f.engine, question("e-ben")).Allow)
}

func TestABurstOnAColdAccountIsOneEvaluation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	hold := make(chan struct{})
	f.admin.hold.Store(&hold)
	var work sync.WaitGroup
	for range 200 {
		work.Go(func() {
			d, err := f.engine.Check(t.Context(), 0, question("e-ben"))
			if err != nil || !d.Allow {
				t.Error(d, err)
			}
		})
	}
	eventually(t, func() bool { return f.admin.lookups.Load() > 0 })
	close(hold)
	work.Wait()
	require.LessOrEqual(t, f.admin.lookups.Load(), int64(2))
	require.Equal(t, 1, counted(f.engine, layerEvaluation, kindPermissions, outcomeHit))
}

// TestALeaderWhoGivesUpDoesNotTakeOthersAlong cancels the call that leads.
func TestALeaderWhoGivesUpDoesNotTakeOthersAlong(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	hold := make(chan struct{})
	f.admin.hold.Store(&hold)
	ctx, cancel := context.WithCancel(t.Context())
	var first, second error
	var work sync.WaitGroup
	work.Go(func() { _, first = f.engine.Check(ctx, 0, question("e-ben")) })
	eventually(t, func() bool { return f.admin.lookups.Load() == 1 })
	work.Go(func() { _, second = f.engine.Check(t.Context(), 0, question("e-ben")) })
	cancel()
	close(hold)
	work.Wait()
	require.NoError(t, second)
	if first != nil {
		require.ErrorIs(t, first, context.Canceled)
	}
}

func TestANewEpochDropsEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	flushFills(t, f.engine)

	docs := fixtureDocuments(t)
	docs[1].Members[0].Grants = nil
	f.admin.replace(stateOf(t, f.admin.state().Policy(), policies.NewRevision(1, 500), docs))
	eventually(t, func() bool { return f.engine.Revision().Epoch() == 1 })
	require.False(t, f.ask(t, f.engine, question("e-ben")).Allow)
	require.Zero(t, rejected(f.engine))
}

func TestANewPolicyInForceDropsPermissions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	flushFills(t, f.engine)
	catalogue := f.admin.state().Policy().Source().Catalogue
	catalogue.Policies = slices.Clone(catalogue.Policies)
	for i, p := range catalogue.Policies {
		if p.ID == "environment.start" {
			catalogue.Policies[i].Actions = []policies.ActionName{"environment.control.Other"}
		}
	}
	p := policyOf(t, catalogue)
	before := f.engine.Header()
	r := f.admin.change(t, object(t, policies.KindPolicyInForce, "", "policy_in_force", p.Source()))
	reached(t, f.engine, r)
	require.NotEqual(t, before, f.engine.Header())
	require.False(t, f.ask(t, f.engine, question("e-ben")).Allow)
}

// TestABatchDoesNotMixPolicies lets the policy in force change while half of a batch
// is at hand and the other half is being fetched.
func TestABatchDoesNotMixPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.MinRevisionWait = patience })
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	hold := make(chan struct{})
	before := f.admin.lookups.Load()
	f.admin.hold.Store(&hold)
	questions := []authz.Question{question("e-ben"), question("e-anna")}
	var answers []authz.Decision
	var err error
	var work sync.WaitGroup
	work.Go(func() { answers, err = f.engine.Decide(t.Context(), 0, questions) })
	eventually(t, func() bool { return f.admin.lookups.Load() > before })
	catalogue := f.admin.state().Policy().Source().Catalogue
	catalogue.Policies = slices.Clone(catalogue.Policies)
	for i, p := range catalogue.Policies {
		if p.ID == "environment.start" {
			catalogue.Policies[i].Resources = []policies.ResourceType{policies.TypeGroup}
		}
	}
	r := f.admin.change(t, object(t, policies.KindPolicyInForce, "", "policy_in_force", policyOf(t, catalogue).Source()))
	close(hold)
	work.Wait()
	require.NoError(t, err)
	for i, d := range answers {
		require.Equal(t, r, d.Revision)
		requireTruth(t, f.admin, f.clock.now(), questions[i], d)
		require.False(t, d.Allow)
	}
}

func TestGrantsEndByClockAndHeartbeat(t *testing.T) {
	t.Parallel()
	ends := testTime.Add(time.Hour)
	for name, pass := range map[string]func(*fixture){
		"clock":     func(f *fixture) { f.clock.advance(time.Hour) },
		"heartbeat": func(f *fixture) { f.admin.beat(ends) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nil)
			reached(t, f.engine, f.grant(t, "ben", "e-ben", &ends, "starter"))
			d := check(t, f.engine, question("e-ben"))
			require.True(t, d.Allow)
			require.Equal(t, policies.FormatTime(ends), d.ValidUntil)
			flushFills(t, f.engine)
			pass(f)
			eventually(t, func() bool { return !f.engine.Now().Before(ends) })
			require.False(t, check(t, f.engine, question("e-ben")).Allow)
			// Another sidecar does not take it from Redis either.
			e := f.another(t, nil)
			eventually(t, func() bool { return !e.Now().Before(ends) })
			require.False(t, check(t, e, question("e-ben")).Allow)
		})
	}
}

// TestIdsThatAreMade asks for what is not there, and again once it is.
func TestIdsThatAreMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	other := f.another(t, nil)
	stranger := authz.Question{SubjectType: "account", Subject: "new", Action: startEnv, ResourceType: "environments", ResourceID: "later"}
	ask := func(q authz.Question, want policies.Reason) {
		for _, e := range []*Engine{f.engine, other} {
			require.Equal(t, want, f.ask(t, e, q).Reason)
			flushFills(t, e)
		}
	}
	ask(question("made"), policies.ReasonUnknownResource)
	lookups := f.admin.lookups.Load()
	ask(question("made"), policies.ReasonUnknownResource)
	require.Equal(t, lookups, f.admin.lookups.Load(), "that there is no such id is remembered")
	ask(stranger, policies.ReasonUnknownSubject)

	f.admin.change(t, object(t, policies.KindEnvironment, "ben", "made", policies.EnvironmentBody{Groups: []policies.GroupID{}}))
	f.admin.change(t, object(t, policies.KindAccount, "", "new", policies.AccountBody{}))
	r := f.admin.change(t, object(t, policies.KindAccount, "", "later", policies.AccountBody{}))
	reached(t, f.engine, r)
	reached(t, other, r)
	ask(question("made"), policies.ReasonNotShared)
	ask(stranger, policies.ReasonNoCollaboration)

	r = f.admin.change(t,
		object(t, policies.KindEnvironment, "ben", "made", nil),
		object(t, policies.KindEnvironment, "anna", "made", policies.EnvironmentBody{Groups: []policies.GroupID{}}))
	reached(t, f.engine, r)
	reached(t, other, r)
	ask(question("made"), policies.ReasonNotShared)
	require.Equal(t, policies.AccountID("anna"), f.ask(t, f.engine, question("made")).Owner)

	// An account that is nobody's member touches no owner when it goes.
	r = f.admin.change(t, object(t, policies.KindAccount, "", "new", nil))
	reached(t, f.engine, r)
	reached(t, other, r)
	ask(stranger, policies.ReasonUnknownSubject)
}

func TestCustomActionsAreTheOwners(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	q := question("e-ben")
	for range 2 {
		q.Action = "acme.Promote"
		require.Equal(t, policies.ReasonActionNotGranted, f.ask(t, f.engine, q).Reason)
		q.Action = "acme.Unheard"
		require.Equal(t, policies.ReasonUnknownAction, f.ask(t, f.engine, q).Reason)
	}
}

func TestTokensComeByTheFeed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token := func(id, hash string) policies.Object {
		return object(t, policies.KindToken, "", id, policies.TokenBody{Hash: hash, Scopes: []policies.Scope{policies.ScopeChecks}})
	}
	one, two := policies.HashToken("one"), policies.HashToken("two")
	reached(t, f.engine, f.admin.change(t, token("t1", one), token("t2", two)))
	got, ok := f.engine.Token(one)
	require.True(t, ok)
	require.Equal(t, authz.Token{ID: "t1", Hash: one, Scopes: []policies.Scope{policies.ScopeChecks}}, got)

	reached(t, f.engine, f.admin.change(t, object(t, policies.KindToken, "", "t1", nil)))
	_, ok = f.engine.Token(one)
	require.False(t, ok)
	_, ok = f.another(t, nil).Token(two)
	require.True(t, ok)
}

func TestEngineBeforeAndAfter(t *testing.T) {
	t.Parallel()
	a := newTestAdmin(t, stateOf(t, testPolicy(t), firstID, fixtureDocuments(t)))
	o := testOptions(t, a, nil, newTestClock())
	e, err := New(o)
	require.NoError(t, err)
	var missing *authz.UnavailableError
	_, err = e.Check(t.Context(), 0, question("e-ben"))
	require.ErrorAs(t, err, &missing)
	require.ErrorAs(t, e.Ready(), &missing)
	require.Zero(t, e.Header())
	_, ok := e.Token("x")
	require.False(t, ok)
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())

	_, err = New(o)
	require.ErrorContains(t, err, "register") // the same registry again
	o.Registerer = prometheus.NewRegistry()
	e, stop := startEngine(t, o)
	require.ErrorContains(t, e.Run(t.Context()), "runs already")
	require.Equal(t, authz.Header{Platform: a.state().Platform(), Revision: firstID, Hash: sha256.Sum256([]byte(firstID.String()))}, e.Header())
	require.True(t, e.FeedStatus().Ready)
	require.True(t, check(t, e, question("e-ben")).Allow)
	stop()
	_, err = e.Check(t.Context(), 0, question("e-anna"))
	require.ErrorAs(t, err, &missing)
}
