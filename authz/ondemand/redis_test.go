package ondemand

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestPoisonedEntriesAreMisses puts into the place of mia's permissions on ben's
// second environment, where she has none, whatever somebody without a key could.
func TestPoisonedEntriesAreMisses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	require.False(t, f.ask(t, f.engine, question("f-ben")).Allow)
	require.True(t, f.ask(t, f.engine, question("e-anna")).Allow)
	flushFills(t, f.engine)
	target := keyNamed(f.engine, miaOn("f-ben"))
	get := func(n name) []byte {
		value, err := f.redis.Get(t.Context(), keyNamed(f.engine, n)).Bytes()
		require.NoError(t, err)
		return value
	}
	allowed, right := get(miaOn("e-ben")), get(miaOn("f-ben"))
	forged, err := newCodec([][]byte{bytes.Repeat([]byte("x"), MinRedisKey)})
	require.NoError(t, err)
	lie := *f.engine.memory.get(f.engine.root.Load().generation, miaOn("e-ben"))
	lie.name = miaOn("f-ben")
	signedByOthers, err := forged.encode(target, &lie)
	require.NoError(t, err)

	for name, value := range map[string]any{
		"another resource's":        allowed,
		"another account's":         get(miaOn("e-anna")),
		"another kind's":            get(accountOf("anna")),
		"truncated":                 right[:len(right)-1],
		"cut to a MAC":              right[:macSize],
		"one byte":                  "x",
		"longer":                    append(bytes.Clone(right), 0),
		"MAC of one, body of other": append(bytes.Clone(right[:macSize]), allowed[macSize:]...),
		"signed by another key":     signedByOthers,
		"oversize":                  bytes.Repeat([]byte("x"), 16<<20),
		"rubbish":                   "{\"allow\": true}",
	} {
		require.NoError(t, f.redis.Set(t.Context(), target, value, 0).Err())
		var log policiestest.Output
		e := f.another(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		require.False(t, f.ask(t, e, question("f-ben")).Allow, name)
		require.Equal(t, 1, rejected(e), name)
		require.Contains(t, log.String(), target, "the log names the entry that is %s", name)
		// The truth is put in its place.
		flushFills(t, e)
		require.Less(t, f.redis.StrLen(t.Context(), target).Val(), int64(maxPermissionsValue), name)
		require.NotEqual(t, value, get(miaOn("f-ben")), name)
	}
	require.NoError(t, f.redis.Del(t.Context(), target).Err())
	require.NoError(t, f.redis.RPush(t.Context(), target, "x").Err())
	e := f.another(t, nil)
	require.False(t, f.ask(t, e, question("f-ben")).Allow, "of another type")
	require.Equal(t, 1, rejected(e))
}

// TestReplayedEntriesAreStale puts back an entry that was true once.
func TestReplayedEntriesAreStale(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	flushFills(t, f.engine)
	target := keyNamed(f.engine, miaOn("e-ben"))
	old, err := f.redis.Get(t.Context(), target).Bytes()
	require.NoError(t, err)

	r := f.grant(t, "ben", "e-ben", nil)
	reached(t, f.engine, r)
	require.False(t, f.ask(t, f.engine, question("e-ben")).Allow)
	flushFills(t, f.engine)
	for name, change := range map[string]func(*Options){
		"that heard the notice": nil,
		"that asks the admin":   func(o *Options) { o.Replay = -1 },
	} {
		require.NoError(t, f.redis.Set(t.Context(), target, old, 0).Err())
		e := f.another(t, change)
		require.False(t, f.ask(t, e, question("e-ben")).Allow, "to an engine "+name)
		require.Zero(t, rejected(e))
	}
}

func TestKeysAreRotated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.ask(t, f.engine, question("e-ben"))
	flushFills(t, f.engine)
	second := bytes.Repeat([]byte("2"), MinRedisKey)

	both := f.another(t, func(o *Options) { o.RedisKeys = [][]byte{second, testKeys[0]} })
	f.ask(t, both, question("e-ben"))
	require.Equal(t, 1, counted(both, layerRedis, kindPermissions, outcomeHit))
	f.ask(t, both, question("e-anna")) // signed by the second from here on
	flushFills(t, both)

	only := f.another(t, func(o *Options) { o.RedisKeys = [][]byte{second} })
	f.ask(t, only, question("e-anna"))
	require.Zero(t, rejected(only))
	f.ask(t, only, question("e-ben"))
	require.Positive(t, rejected(only))
}

func TestAFlushMakesSlowerOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	ask := func() {
		f.engine.memory.drop()
		require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
		flushFills(t, f.engine)
	}
	for range 3 {
		ask()
		before := f.admin.lookups.Load()
		ask()
		require.Equal(t, before, f.admin.lookups.Load(), "it was in Redis")
		require.NoError(t, f.redis.FlushAll(t.Context()).Err())
		ask()
		require.Greater(t, f.admin.lookups.Load(), before)
	}
}

// breakerState is 0 closed, 1 half-open, 2 open.
func breakerState(e *Engine, l layer) float64 {
	return valueOf(e.metrics.breakers.WithLabelValues(layers[l]))
}

// TestRedisGone kills, freezes and restarts Redis.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.MemoryLimit, o.redisTimeout = 1, redisTimeout })
	f.ask(t, f.engine, question("e-ben"))
	flushFills(t, f.engine)

	require.NoError(t, f.server.Pause())
	begun := time.Now()
	for breakerState(f.engine, layerRedis) != 2 {
		f.ask(t, f.engine, question("e-ben"))
		require.Less(t, time.Since(begun), patience)
	}
	reads := counted(f.engine, layerRedis, kindPermissions, outcomeError)
	require.GreaterOrEqual(t, reads, 1)
	require.NoError(t, f.server.Resume())
	eventually(t, func() bool {
		f.ask(t, f.engine, question("e-ben"))
		return breakerState(f.engine, layerRedis) == 0
	})

	require.NoError(t, f.server.Stop(t.Context()))
	eventually(t, func() bool {
		f.ask(t, f.engine, question("e-anna"))
		return breakerState(f.engine, layerRedis) == 2
	})
	_, port, err := net.SplitHostPort(f.server.Addr())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	again, err := redisserver.Start(t.Context(), redisserver.Options{Port: number, Password: f.server.Password()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, again.Stop(context.Background())) })
	hits := counted(f.engine, layerRedis, kindPermissions, outcomeHit)
	eventually(t, func() bool {
		f.ask(t, f.engine, question("e-anna"))
		return counted(f.engine, layerRedis, kindPermissions, outcomeHit) > hits
	})
}

// TestRedisRefuses has a Redis whose replies refuse all, to whom has a wrong password:
// that is no empty Redis. The log says what is wrong, once, and nothing of the password.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var log policiestest.Output
	e := f.another(t, func(o *Options) {
		wrong := *o.Redis
		wrong.Password = "not-this-one"
		o.Redis, o.MemoryLimit, o.Logger = &wrong, 1, slog.New(slog.NewTextHandler(&log, nil))
	})
	eventually(t, func() bool {
		f.ask(t, e, question("e-ben"))
		return breakerState(e, layerRedis) == 2
	})
	require.Zero(t, valueOf(e.metrics.fills[fillWritten]))
	require.Zero(t, counted(e, layerRedis, kindAccount, outcomeMiss))
	require.Contains(t, log.String(), "WRONGPASS")
	require.NotContains(t, log.String(), "not-this-one")
}

// TestRedisIsFull has a Redis that takes nothing more: it is read on, the log says what
// is wrong, and once there is room it is filled again.
func TestRedisIsFull(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.ask(t, f.engine, question("e-ben"))
	flushFills(t, f.engine)
	require.NoError(t, f.redis.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, f.redis.ConfigSet(t.Context(), "maxmemory", "1").Err())
	var log policiestest.Output
	e := f.another(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	f.ask(t, e, question("e-ben"))
	require.Equal(t, 1, counted(e, layerRedis, kindPermissions, outcomeHit))
	for _, environment := range []string{"e-anna", "no-such-one"} {
		f.ask(t, e, question(environment))
		flushFills(t, e)
	}
	require.Zero(t, valueOf(e.metrics.fills[fillWritten]))
	require.Greater(t, valueOf(e.metrics.fills[fillFailed]), 1.0)
	require.Zero(t, breakerState(e, layerRedis))
	require.Equal(t, 1, strings.Count(log.String(), "Redis refuses what is written"), "%s", log.String())
	require.Contains(t, log.String(), "OOM")

	require.NoError(t, f.redis.ConfigSet(t.Context(), "maxmemory", "0").Err())
	f.ask(t, e, question("none-either"))
	flushFills(t, e)
	require.Positive(t, valueOf(e.metrics.fills[fillWritten]))
}

// TestAColdBatchCostsAFewRoundTrips asks 100 questions about 100 accounts, of which
// nothing is in memory: first with nothing in Redis, then with all.
func TestAColdBatchCostsAFewRoundTrips(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var objects []policies.Object
	questions := make([]authz.Question, 100)
	for i := range questions {
		id := "n" + strconv.Itoa(i)
		owner := policies.AccountID("owner-" + id)
		objects = append(objects, object(t, policies.KindAccount, "", string(owner), policies.AccountBody{}),
			object(t, policies.KindEnvironment, owner, id, policies.EnvironmentBody{Groups: []policies.GroupID{}}))
		questions[i] = question(id)
	}
	reached(t, f.engine, f.admin.change(t, objects...))

	trips := func(e *Engine) (redis, admin int) {
		count := &roundTrips{}
		e.shared.client.AddHook(count)
		before := f.admin.lookups.Load()
		decisions, err := e.Decide(t.Context(), 0, questions)
		require.NoError(t, err)
		for i, d := range decisions {
			requireTruth(t, f.admin, f.clock.now(), questions[i], d)
		}
		flushFills(t, e)
		return count.pipelines + count.single, int(f.admin.lookups.Load() - before)
	}
	redis, admin := trips(f.engine)
	require.LessOrEqual(t, redis, 3)
	require.LessOrEqual(t, admin, 1+(len(questions)+lookupAccounts-1)/lookupAccounts) // the last of them at once
	redis, admin = trips(f.another(t, nil))
	require.Equal(t, 1, redis)
	require.Zero(t, admin)
}

// TestTheLargestBatchIsAnswered asks about as many things as a request may, of which
// nothing is known to anybody: it takes more than one look-up.
func TestTheLargestBatchIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	questions := make([]authz.Question, policies.MaxBatchSize)
	for i := range questions {
		questions[i] = question("n" + strconv.Itoa(i))
		questions[i].Subject = "nobody-" + strconv.Itoa(i)
	}
	decisions, err := f.engine.Decide(t.Context(), 0, questions)
	require.NoError(t, err)
	for _, d := range decisions {
		require.Equal(t, policies.ReasonUnknownSubject, d.Reason)
	}
	require.LessOrEqual(t, f.admin.lookups.Load(), int64(3))
}

// TestLargeAccountsAreReadInTwoSteps has one that the first read cuts.
func TestLargeAccountsAreReadInTwoSteps(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var objects []policies.Object
	for i := range 6000 {
		// Ids that do not compress.
		id := policies.HashToken(strconv.Itoa(i))
		objects = append(objects, object(t, policies.KindEnvironment, "ben", id, policies.EnvironmentBody{Groups: []policies.GroupID{}}))
	}
	reached(t, f.engine, f.admin.change(t, objects...))
	f.ask(t, f.engine, question("e-ben"))
	flushFills(t, f.engine)
	require.Greater(t, f.redis.StrLen(t.Context(), keyNamed(f.engine, accountOf("ben"))).Val(), int64(redisFirstRead))

	full := f.admin.inFull.Load()
	require.NoError(t, f.redis.Del(t.Context(), keyNamed(f.engine, miaOn("e-ben"))).Err())
	f.engine.memory.drop()
	require.True(t, f.ask(t, f.engine, question("e-ben")).Allow)
	require.Equal(t, 1, counted(f.engine, layerRedis, kindAccount, outcomeHit))
	require.Equal(t, full, f.admin.inFull.Load())
}
