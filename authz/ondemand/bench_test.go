package ondemand

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// benchEnvironments is how many environments the benchmarks ask about in turn.
const benchEnvironments = 1000

// benchFixture has permissions on many environments in Redis.
func benchFixture(b *testing.B, change func(*Options)) (f *fixture, questions []authz.Question) {
	b.Helper()
	f = newFixture(b, change)
	var objects []policies.Object
	for i := range benchEnvironments {
		id := "n" + strconv.Itoa(i)
		objects = append(objects, object(b, policies.KindEnvironment, "ben", id, policies.EnvironmentBody{Groups: []policies.GroupID{}}))
		questions = append(questions, question(id))
	}
	reached(b, f.engine, f.admin.change(b, objects...))
	f.grant(b, "ben", "n0", nil, "starter")
	reached(b, f.engine, f.admin.state().Revision())
	for begin := 0; begin < len(questions); begin += 100 {
		_, err := f.engine.Decide(context.Background(), 0, questions[begin:begin+100])
		require.NoError(b, err)
		flushFills(b, f.engine)
	}
	return f, questions
}

// BenchmarkCheckInRedis is a check whose permissions are not in memory but in
// Redis, beside its floor: one GET of the same key by the same client.
func BenchmarkCheckInRedis(b *testing.B) {
	f, questions := benchFixture(b, func(o *Options) { o.MemoryLimit = 1 })
	ctx := b.Context()
	keys := make([]string, len(questions))
	for i, q := range questions {
		keys[i] = keyNamed(f.engine, miaOn(q.ResourceID))
	}
	hits := counted(f.engine, layerRedis, kindPermissions, outcomeHit)
	var floor, checks time.Duration // measured in turn, so that both meet the same machine
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		at := i % len(questions)
		begun := time.Now()
		value, err := f.engine.shared.client.Get(ctx, keys[at]).Bytes()
		between := time.Now()
		if err != nil || len(value) < macSize {
			b.Fatal(err)
		}
		d, err := f.engine.Check(ctx, 0, questions[at])
		floor, checks = floor+between.Sub(begun), checks+time.Since(between)
		if err != nil || d.Allow != (at == 0) {
			b.Fatal(d, err)
		}
		i++
	}
	b.ReportMetric(float64(checks)/float64(b.N), "check-ns/op")
	b.ReportMetric(float64(floor)/float64(b.N), "floor-ns/op")
	b.ReportMetric(float64(checks)/float64(floor), "x-floor")
	require.GreaterOrEqual(b, counted(f.engine, layerRedis, kindPermissions, outcomeHit)-hits, b.N)
}

// BenchmarkBatchInRedis is a batch of 100 such checks.
func BenchmarkBatchInRedis(b *testing.B) {
	f, questions := benchFixture(b, func(o *Options) { o.MemoryLimit = 1 })
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		begin := i * 100 % len(questions)
		decisions, err := f.engine.Decide(b.Context(), 0, questions[begin:begin+100])
		if err != nil || decisions[0].Allow != (begin == 0) {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkCheckInMemory is a check whose permissions are in memory, beside its
// floor: a look-up of the same key in a map, and the clock.
func BenchmarkCheckInMemory(b *testing.B) {
	f, questions := benchFixture(b, nil)
	floor := map[memoryKey]*fact{}
	g := f.engine.root.Load().generation
	for _, q := range questions {
		n := miaOn(q.ResourceID)
		floor[memoryKey{g.id, n}] = f.engine.memory.get(g, n)
	}
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			f := floor[memoryKey{g.id, miaOn(questions[i%len(questions)].ResourceID)}]
			if f == nil || !f.permissions.Fresh(time.Now()) && time.Now().IsZero() {
				b.Fatal(i)
			}
			i++
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			d, err := f.engine.Check(b.Context(), 0, questions[i%len(questions)])
			if err != nil || d.Allow != (i%len(questions) == 0) {
				b.Fatal(d, err)
			}
			i++
		}
	})
}
