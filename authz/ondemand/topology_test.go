package ondemand

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/policies"
)

// freePort is one that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	return number
}

func startRedis(t *testing.T, o redisserver.Options) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

// startCluster runs a Cluster of three masters, each with a third of the slots.
func startCluster(t *testing.T) []*redisserver.Server {
	t.Helper()
	const slots, size = 16384, 3
	servers := make([]*redisserver.Server, size)
	buses := make([]int, size)
	for i := range servers {
		buses[i] = freePort(t)
		servers[i] = startRedis(t, redisserver.Options{Password: "cluster", Dir: t.TempDir(), Config: fmt.Sprintf(
			"cluster-enabled yes\ncluster-port %d\ncluster-require-full-coverage no\ncluster-node-timeout 1000\n", buses[i])})
		client := testClient(t, servers[i])
		require.NoError(t, client.ClusterAddSlotsRange(t.Context(), i*slots/size, (i+1)*slots/size-1).Err())
		for j, met := range servers[:i] {
			_, port, err := net.SplitHostPort(met.Addr())
			require.NoError(t, err)
			require.NoError(t, client.Do(t.Context(), "cluster", "meet", "127.0.0.1", port, buses[:i][j]).Err())
		}
	}
	for _, s := range servers {
		client := testClient(t, s)
		eventually(t, func() bool {
			info := client.ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
				strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return servers
}

// spread makes environments whose keys fall on many slots, and asks about them.
func (f *fixture) spread(t *testing.T) []authz.Question {
	t.Helper()
	var objects []policies.Object
	var questions []authz.Question
	for i := range 30 {
		id := "n" + strconv.Itoa(i)
		objects = append(objects, object(t, policies.KindEnvironment, "ben", id, policies.EnvironmentBody{Groups: []policies.GroupID{}}))
		questions = append(questions, question(id))
	}
	reached(t, f.engine, f.admin.change(t, objects...))
	return questions
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	where, err := ParseRedisURL("redis://:cluster@" + servers[0].Addr() + "?addr=" + servers[1].Addr() + "&addr=" + servers[2].Addr())
	require.NoError(t, err)
	f := newFixture(t, func(o *Options) { o.Redis = where })
	require.IsType(t, (*redis.ClusterClient)(nil), f.engine.shared.client)
	questions := f.spread(t)
	ask := func(e *Engine) {
		decisions, err := e.Decide(t.Context(), 0, questions)
		require.NoError(t, err)
		for i, d := range decisions {
			requireTruth(t, f.admin, f.clock.now(), questions[i], d)
		}
		flushFills(t, e)
	}
	ask(f.engine)
	e := f.another(t, nil)
	ask(e)
	require.Equal(t, len(questions), counted(e, layerRedis, kindPermissions, outcomeHit))
	for _, s := range servers {
		require.Positive(t, testClient(t, s).DBSize(t.Context()).Val())
	}

	require.NoError(t, servers[2].Stop(t.Context()))
	e = f.another(t, func(o *Options) { o.MemoryLimit, o.redisTimeout = 1, redisTimeout })
	eventually(t, func() bool { // two nodes still answer
		ask(e)
		return counted(e, layerRedis, kindPermissions, outcomeHit) > 0 && counted(e, layerRedis, kindPermissions, outcomeError) > 0
	})
}

func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	master := startRedis(t, redisserver.Options{Password: "data"})
	_, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	replica := startRedis(t, redisserver.Options{Password: "data", Config: "replicaof 127.0.0.1 " + port + "\nrepl-diskless-sync-delay 0\n"})
	sentinel := startRedis(t, redisserver.Options{Password: "watch", Sentinel: true, Dir: t.TempDir(), Config: fmt.Sprintf(
		"sentinel monitor usher 127.0.0.1 %s 1\nsentinel auth-pass usher data\nsentinel down-after-milliseconds usher 500\nsentinel failover-timeout usher 3000\n", port)})
	watch := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr(), Password: "watch"})
	t.Cleanup(func() { _ = watch.Close() })
	eventually(t, func() bool { return len(watch.Replicas(t.Context(), "usher").Val()) == 1 })
	eventually(t, func() bool {
		return strings.Contains(testClient(t, replica).Info(t.Context(), "replication").Val(), "master_link_status:up")
	})

	where, err := ParseRedisURL("redis://:data@" + sentinel.Addr() + "?master_name=usher&sentinel_password=" + url.QueryEscape("watch"))
	require.NoError(t, err)
	f := newFixture(t, func(o *Options) { o.Redis, o.MemoryLimit, o.redisTimeout = where, 1, redisTimeout })
	f.ask(t, f.engine, question("e-ben"))
	flushFills(t, f.engine)
	f.engine.memory.drop()
	f.ask(t, f.engine, question("e-ben"))
	require.Positive(t, counted(f.engine, layerRedis, kindPermissions, outcomeHit))
	require.Positive(t, testClient(t, master).DBSize(t.Context()).Val())

	require.NoError(t, master.Stop(t.Context()))
	eventually(t, func() bool {
		f.ask(t, f.engine, question("e-ben")) // right all the while
		return valueOf(f.engine.metrics.fills[fillWritten]) > 0 &&
			strings.Contains(testClient(t, replica).Info(t.Context(), "replication").Val(), "role:master")
	})
	hits := counted(f.engine, layerRedis, kindPermissions, outcomeHit)
	eventually(t, func() bool {
		f.ask(t, f.engine, question("e-ben"))
		return counted(f.engine, layerRedis, kindPermissions, outcomeHit) > hits+3
	})
}
