package ondemand

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// fleet is several on-demand engines over one Redis and one admin, beside what
// their answers are held against.
type fleet struct {
	admin    *testAdmin
	redis    *redis.Client
	clock    *testClock
	resident *authz.Engine
	history  *history
	options  []Options
	engines  []*Engine
	stops    []func()

	mu   sync.Mutex
	docs map[policies.Revision]policiestest.Model
}

func newFleet(t *testing.T, p *authz.Policy, dice policiestest.Dice) *fleet {
	t.Helper()
	s := testRedis(t)
	f := &fleet{history: newHistory(t, dice), clock: newTestClock(), redis: testClient(t, s), docs: map[policies.Revision]policiestest.Model{}}
	f.admin = newTestAdmin(t, stateOf(t, p, 1000, f.history.docs))
	var err error
	f.resident, err = authz.New(authz.Options{Clock: f.clock.now})
	require.NoError(t, err)
	require.NoError(t, f.resident.Reset(f.admin.state()))
	f.record(1000)
	f.options = []Options{
		testOptions(t, f.admin, s, f.clock),
		testOptions(t, f.admin, s, f.clock),
		testOptions(t, f.admin, s, f.clock),
		testOptions(t, f.admin, nil, f.clock),
	}
	f.options[1].MemoryLimit = 1 // nothing stays in memory
	f.options[2].IndexLimit = 8  // notices are soon forgotten
	f.options[2].Replay = -1
	for i := range f.options {
		e, stop := startEngine(t, f.options[i])
		f.engines, f.stops = append(f.engines, e), append(f.stops, stop)
	}
	return f
}

func (f *fleet) record(r policies.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	inForce := f.admin.state().Policy().Source()
	f.docs[r] = policiestest.Model{Catalogue: inForce.Catalogue, Documents: f.history.docs, Guarded: len(inForce.Guardrails()) > 0}
}

func (f *fleet) model(r policies.Revision) policiestest.Model {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.docs[r]
}

// put puts another policy in force.
func (f *fleet) put(t *testing.T, p *authz.Policy) {
	t.Helper()
	f.apply(t, object(t, policies.KindPolicyInForce, "", "policy_in_force", p.Source()))
}

// change takes a step, and gives the revision that it made.
func (f *fleet) change(t *testing.T) policies.Revision {
	t.Helper()
	return f.apply(t, f.history.step(t)...)
}

func (f *fleet) apply(t *testing.T, objects ...policies.Object) policies.Revision {
	t.Helper()
	r := f.admin.change(t, objects...)
	f.record(r)
	f.admin.mu.Lock()
	c := f.admin.changes[len(f.admin.changes)-1]
	f.admin.mu.Unlock()
	require.NoError(t, f.resident.Apply(t.Context(), c))
	return r
}

// ask asks e all questions, as a batch or one by one at the same time.
func (f *fleet) ask(t *testing.T, e *Engine, least policies.Revision, questions []policiestest.Question, batch bool) {
	t.Helper()
	asked := make([]authz.Question, len(questions))
	for i, q := range questions {
		asked[i] = asQuestion(q)
		asked[i].Explain = i%5 == 4
	}
	answers := make([]authz.Decision, len(asked))
	if batch {
		var err error
		answers, err = e.Decide(t.Context(), least, asked)
		require.NoError(t, err)
	} else {
		errs := make([]error, len(asked))
		var work sync.WaitGroup
		for i := range asked {
			work.Go(func() { answers[i], errs[i] = e.Check(t.Context(), least, asked[i]) })
		}
		work.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
	}
	for i, d := range answers {
		require.GreaterOrEqual(t, d.Revision, least)
		if batch {
			require.Equal(t, answers[0].Revision, d.Revision)
		}
		requireTruth(t, f.admin, f.clock.now(), asked[i], d)
		if d.Levels == nil && d.MissingRoles == nil {
			want := expected(f.model(d.Revision).Check(questions[i], f.clock.now()), d.Revision)
			require.Empty(t, cmp.Diff(want, d), "%+v", questions[i])
		}
		if f.resident.State().Revision() == d.Revision {
			want, err := f.resident.Check(context.Background(), 0, asked[i])
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(want, d), "%+v", questions[i])
		}
	}
}

// disturb does something that must not change an answer.
func (f *fleet) disturb(t *testing.T, dice policiestest.Dice) {
	t.Helper()
	switch dice.Roll(8) {
	case 0:
		require.NoError(t, f.redis.FlushAll(t.Context()).Err())
	case 1:
		i := dice.Roll(len(f.engines))
		f.stops[i]()
		f.options[i].Registerer = nil
		f.engines[i], f.stops[i] = startEngine(t, f.options[i])
	case 2:
		f.clock.advance(time.Duration(1+dice.Roll(30)) * time.Hour)
	case 3, 4:
		f.poison(t, dice)
	}
}

// poison puts values under other keys, back to what they were, or in disorder.
func (f *fleet) poison(t *testing.T, dice policiestest.Dice) {
	t.Helper()
	keys, err := f.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for i := range keys {
		value, err := f.redis.Get(t.Context(), keys[i]).Bytes()
		if err != nil || len(value) == 0 || dice.Roll(3) == 0 {
			continue
		}
		switch dice.Roll(5) {
		case 0:
			require.NoError(t, f.redis.Set(t.Context(), keys[dice.Roll(len(keys))], value, 0).Err())
		case 1:
			require.NoError(t, f.redis.Set(t.Context(), keys[i], value[:dice.Roll(len(value))], 0).Err())
		case 2:
			value[dice.Roll(len(value))] ^= 1 << dice.Roll(8)
			require.NoError(t, f.redis.Set(t.Context(), keys[i], value, 0).Err())
		case 3:
			require.NoError(t, f.redis.Set(t.Context(), "kept:"+keys[i], value, 0).Err())
		case 4:
			if kept, err := f.redis.Get(t.Context(), "kept:"+keys[i]).Bytes(); err == nil {
				require.NoError(t, f.redis.Set(t.Context(), keys[i], kept, 0).Err())
			}
		}
	}
}

// TestAnswersAreTheTruthOfTheirRevision holds engines that share a Redis against
// Rego over the whole state, the reference model and a resident engine, through
// random changes, restarts, flushes and poisoned entries.
func TestAnswersAreTheTruthOfTheirRevision(t *testing.T) {
	t.Parallel()
	inForce := []*authz.Policy{testPolicy(t), guardedPolicy(t)}
	worlds, steps := 5, 20
	if testing.Short() {
		worlds, steps = 2, 10
	}
	for seed := range worlds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			dice := policiestest.SeededDice(uint64(seed))
			f := newFleet(t, inForce[seed%2], dice)
			for step := range steps {
				if step == steps/2 {
					f.put(t, inForce[1-seed%2])
				}
				least := f.change(t)
				if dice.Roll(2) == 0 {
					least = 0
				}
				f.disturb(t, dice)
				questions := make([]policiestest.Question, 12)
				for i := range questions {
					questions[i] = f.history.question()
				}
				for _, e := range f.engines {
					f.ask(t, e, least, questions, dice.Roll(2) == 0)
				}
			}
		})
	}
}

// TestAnswersWhileTheDataChanges reads from several engines while revisions come as
// fast as they can: every answer is the truth of the revision that it names, none is
// older than was asked for, and for one reader revisions never go back.
func TestAnswersWhileTheDataChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	engines := []*Engine{
		f.engine,
		f.another(t, func(o *Options) { o.MemoryLimit = 1 }),
		f.another(t, func(o *Options) { o.IndexLimit = 8 }),
		f.another(t, func(o *Options) { o.Redis = nil }),
	}
	var written atomic.Uint64 // the revision that was acknowledged last
	written.Store(uint64(firstID))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var asked atomic.Int64
	for _, e := range engines {
		for n := range 2 {
			readers.Go(func() {
				var last policies.Revision
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					least := policies.Revision(0)
					if i%2 == n {
						least = policies.Revision(written.Load())
					}
					questions := []authz.Question{question("e-ben"), question("e-anna"), question("f-ben"), question("f-anna")}
					answers, err := e.Decide(t.Context(), least, questions)
					if err != nil {
						t.Error(err)
						return
					}
					for j, d := range answers {
						if d.Revision < max(least, last) || d.Revision != answers[0].Revision {
							t.Errorf("revision %d after %d, wanted %d", d.Revision, last, least)
						}
						requireTruth(t, f.admin, testTime, questions[j], d)
					}
					last = answers[0].Revision
					asked.Add(1)
				}
			})
		}
	}
	dice := policiestest.SeededDice(1)
	shared := map[string]bool{"e-anna": true, "e-ben": true}
	for range 150 {
		owner := []string{"anna", "ben"}[dice.Roll(2)]
		environment := []string{"e-", "f-"}[dice.Roll(2)] + owner
		var roles []policies.RoleID // none takes the grant away
		if shared[environment] = !shared[environment]; shared[environment] {
			roles = []policies.RoleID{"starter"}
		}
		before := asked.Load()
		written.Store(uint64(f.grant(t, policies.AccountID(owner), environment, nil, roles...)))
		if dice.Roll(4) == 0 {
			eventually(t, func() bool { return asked.Load() > before+4 })
		}
	}
	close(stop)
	readers.Wait()
}
