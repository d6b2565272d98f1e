package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// InProcess is the engine as a library, without a server around it.
type InProcess struct {
	// BytesPerGrant is the live heap of the state, less that of an empty platform,
	// for each grant of the generated accounts.
	BytesPerGrant float64 `json:"bytes_per_grant"`
	// OPABytesPerGrant is the same for OPA's store with the same bundle.
	OPABytesPerGrant float64 `json:"opa_bytes_per_grant"`
	Hot              Cached  `json:"hot"`  // 1,000 questions
	Cold             Cached  `json:"cold"` // drawn over the whole platform
	Miss             Miss    `json:"miss"`
}

// Miss is an evaluation, beside the same query on OPA's store with the same bundle.
type Miss struct {
	Nanoseconds float64 `json:"ns"`
	OfFloor     float64 `json:"of_floor"`
	Wrong       int     `json:"wrong"`
}

// Cached is a check that the cache answers, beside three map look-ups of the same
// keys and the clock.
type Cached struct {
	Questions   int     `json:"questions"`
	Nanoseconds float64 `json:"ns"`
	OfFloor     float64 `json:"of_floor"`
	Allocations float64 `json:"allocations"`
	// TwoCores is the throughput of two goroutines beside that of one, and
	// FloorTwoCores the same of the floor: what the machine's cores give.
	TwoCores      float64 `json:"two_cores"`
	FloorTwoCores float64 `json:"floor_two_cores"`
	Wrong         int     `json:"wrong"`
}

const (
	hotQuestions  = 1000
	coldQuestions = 100_000
	timedRounds   = 40
	timedChecks   = 5000
	// sharedChecks are those of a round on two cores: so many that to wake the second
	// core, which takes as long as hundreds of checks, does not weigh.
	sharedChecks = 20 * timedChecks
)

// measureInProcess reads a bundle into an engine of this process.
func measureInProcess(ctx context.Context, path string, p *platform) (InProcess, error) {
	file, err := os.Open(path)
	if err != nil {
		return InProcess{}, fmt.Errorf("read the bundle: %w", err)
	}
	contents, err := policies.ReadBundle(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return InProcess{}, fmt.Errorf("read the bundle: %w", err)
	}
	empty, err := stateOf(ctx, contents, nil)
	if err != nil {
		return InProcess{}, err
	}
	before := liveHeap()
	state, err := stateOf(ctx, contents, empty.Policy())
	if err != nil {
		return InProcess{}, err
	}
	found := InProcess{BytesPerGrant: (float64(liveHeap()) - float64(before)) / float64(len(p.documents)*grantsEach)}
	runtime.KeepAlive(contents) // in both
	questions := p.questions(coldQuestions)
	if found.Hot, err = measureCached(ctx, state, questions[:hotQuestions]); err != nil {
		return InProcess{}, err
	}
	if found.Cold, err = measureCached(ctx, state, questions); err != nil {
		return InProcess{}, err
	}
	err = measureMisses(ctx, &found, path, state, questions[:hotQuestions], len(p.documents)*grantsEach)
	return found, err
}

// stateOf builds the bundle's state; without a policy to use again, that of the
// platform without its accounts.
func stateOf(ctx context.Context, contents *policies.BundleContents, policy *authz.Policy) (*authz.State, error) {
	builder := authz.NewBuilder(authz.Header{Platform: contents.PlatformID(), Revision: contents.Revision()})
	builder.Reuse(policy)
	for object, err := range contents.Objects() {
		if err == nil && (policy != nil || object.Kind == policies.KindPolicyInForce) {
			err = builder.Add(object)
		}
		if err != nil {
			return nil, fmt.Errorf("build the state: %w", err)
		}
	}
	return builder.Build(ctx)
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func measureCached(ctx context.Context, state *authz.State, questions []question) (Cached, error) {
	engine, err := authz.New(authz.Options{})
	if err != nil {
		return Cached{}, err
	}
	if err := engine.Reset(state); err != nil {
		return Cached{}, err
	}
	asked := make([]authz.Question, len(questions))
	found := Cached{Questions: len(questions)}
	for i := range questions {
		q, want := &questions[i].Question, &questions[i].want
		asked[i] = authz.Question{
			SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action, ResourceType: q.ResourceType, ResourceID: q.ResourceID,
		}
		got, err := engine.Check(ctx, 0, asked[i])
		if err != nil {
			return Cached{}, err
		}
		if got.Allow != want.Decision || got.Reason != want.Reason {
			found.Wrong++
		}
	}
	check, least := checks(ctx, engine, asked, 0), mapsAndClock(asked)
	floor := least(0)
	ours, theirs := fastest(timedChecks, check, floor)
	found.Nanoseconds, found.OfFloor = ours/timedChecks, ours/theirs
	found.Allocations = allocations(check) / timedChecks

	found.TwoCores = twoCores(check, checks(ctx, engine, asked, len(asked)/2))
	found.FloorTwoCores = twoCores(floor, least(len(asked)/2))
	return found, nil
}

// twoCores is the throughput of both at once beside that of one.
func twoCores(one, other func(n int)) float64 {
	alone, both := fastest(sharedChecks, one, func(n int) {
		var wait sync.WaitGroup
		for _, run := range []func(int){one, other} {
			wait.Go(func() { run(n) })
		}
		wait.Wait()
	})
	return 2 * alone / both
}

// checks gives a function that makes n checks, from the next-th question on.
func checks(ctx context.Context, engine *authz.Engine, asked []authz.Question, next int) func(n int) {
	return func(n int) {
		at := next // not on the heap: there two goroutines would write to one cache line
		for range n {
			if _, err := engine.Check(ctx, 0, asked[at]); err != nil {
				return // it was answered before: only an end of ctx can be the reason
			}
			if at++; at == len(asked) {
				at = 0
			}
		}
		next = at
	}
}

// mapsAndClock is the least that any solution must do for a check: like checks, from
// a given question on.
func mapsAndClock(asked []authz.Question) func(next int) func(n int) {
	subjects, resources, actions := map[string]int{}, map[string]int{}, map[string]int{}
	for i, q := range asked {
		subjects[q.Subject], resources[q.ResourceID], actions[q.Action] = i, i, i
	}
	return func(next int) func(int) {
		return func(n int) {
			at, sum := next, int64(0)
			for range n {
				q := &asked[at]
				sum += int64(subjects[q.Subject]+resources[q.ResourceID]+actions[q.Action]) + time.Now().UnixNano()
				if at++; at == len(asked) {
					at = 0
				}
			}
			next = at
			runtime.KeepAlive(sum)
		}
	}
}

// fastest is the best of many short rounds of each, in turn, in nanoseconds: what
// else the machine does weighs on both.
func fastest(checks int, a, b func(n int)) (float64, float64) {
	best := [2]time.Duration{time.Hour, time.Hour}
	for range timedRounds {
		for i, run := range []func(int){a, b} {
			began := time.Now()
			run(checks)
			best[i] = min(best[i], time.Since(began))
		}
	}
	return float64(best[0]), float64(best[1])
}

func allocations(run func(n int)) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(timedChecks)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs)
}
