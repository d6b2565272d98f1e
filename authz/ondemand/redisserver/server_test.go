package redisserver_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/usher-authz/usher/authz/ondemand/redisserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client talks to s by its URL.
func client(t *testing.T, s *redisserver.Server) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	require.NoError(t, err)
	o.MaxRetries = -1
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// kinds are both ways to run a server.
var kinds = map[string]redisserver.Options{
	"process":    {},
	"in process": {InProcess: true},
}

func TestServerAnswersByURLAndAsksForThePassword(t *testing.T) {
	t.Parallel()
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Password = `a "quoted\" pass/word: é`
			s, err := redisserver.Start(t.Context(), o)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })

			c := client(t, s)
			require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
			require.Equal(t, "v", c.Get(t.Context(), "k").Val())

			open := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
			t.Cleanup(func() { _ = open.Close() })
			require.ErrorContains(t, open.Get(t.Context(), "k").Err(), "NOAUTH")
		})
	}
}

func TestStopEndsTheServerAndComesTwice(t *testing.T) {
	t.Parallel()
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := redisserver.Start(t.Context(), o)
			require.NoError(t, err)
			require.NoError(t, s.Stop(t.Context()))
			<-s.Done()
			require.NoError(t, s.Stop(t.Context()))
			_, err = net.Dial("tcp", s.Addr())
			require.Error(t, err)
		})
	}
}

func TestThePasswordIsInNoProcessListing(t *testing.T) {
	t.Parallel()
	s, err := redisserver.Start(t.Context(), redisserver.Options{Password: "hush-hush"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.PID()), "cmdline"))
	require.NoError(t, err)
	require.NotContains(t, string(line), "hush-hush")
}

func TestAFrozenServerIsStopped(t *testing.T) {
	t.Parallel()
	s, err := redisserver.Start(t.Context(), redisserver.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop(t.Context()))
	<-s.Done()
}

func TestStartSaysWhyAServerEnded(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)

	_, err = redisserver.Start(t.Context(), redisserver.Options{Port: number})
	require.ErrorContains(t, err, "ended before it answered")
	require.True(t, strings.Contains(err.Error(), "in use") || strings.Contains(err.Error(), "bind"), err.Error())

	_, err = redisserver.Start(t.Context(), redisserver.Options{Program: "/nowhere/redis-server"})
	require.ErrorContains(t, err, "start /nowhere/redis-server")

	_, err = redisserver.Start(t.Context(), redisserver.Options{Config: "no-such-directive 1\n"})
	require.ErrorContains(t, err, "no-such-directive")
}

func TestARedisInThisProcessCannotBeFrozen(t *testing.T) {
	t.Parallel()
	s, err := redisserver.Start(t.Context(), redisserver.Options{InProcess: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.Error(t, s.Pause())
	require.Error(t, s.Resume())
	require.Zero(t, s.PID())
}
