package ondemand

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]redis.UniversalOptions{
		"redis://localhost":                             {Addrs: []string{"localhost:6379"}},
		"redis://user:pa%2Fss@[::1]:7000/3":             {Addrs: []string{"[::1]:7000"}, Username: "user", Password: "pa/ss", DB: 3},
		"redis://:secret@h:1?addr=i:2&addr=j:3":         {Addrs: []string{"h:1", "i:2", "j:3"}, Password: "secret"},
		"redis://h:1?cluster=true":                      {Addrs: []string{"h:1"}, IsClusterMode: true},
		"redis://h:1?master_name=m&sentinel_password=p": {Addrs: []string{"h:1"}, MasterName: "m", SentinelPassword: "p"},
		"unix:///run/redis.sock?db=2":                   {Addrs: []string{"/run/redis.sock"}, DB: 2},
	} {
		got, err := ParseRedisURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, *got, raw)
	}
	got, err := ParseRedisURL("rediss://h")
	require.NoError(t, err)
	require.Equal(t, "h", got.TLSConfig.ServerName)

	for raw, reason := range map[string]string{
		"http://:secret@h":            "begins with none",
		"redis://:secret@":            "no host",
		"redis://:secret@h/x":         "not a number",
		"redis://:secret@h/1x":        "not a number",
		"redis://:secret@h?pool=3":    `unknown name "pool"`,
		"redis://:secret@h?cluster=1": "neither true nor false",
		"redis://:secret@h:port":      "does not parse",
		"redis://:secret@h?%zz":       "query",
	} {
		_, err := ParseRedisURL(raw)
		require.ErrorContains(t, err, reason, raw)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestOptionsReportEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Redis: &redis.UniversalOptions{}, RedisKeys: [][]byte{[]byte("hush")}, MemoryLimit: -1})
	for _, reason := range []string{"the admin server is missing", "key 1 for Redis has 4 bytes", "a limit is negative"} {
		require.ErrorContains(t, err, reason)
	}
	require.NotContains(t, err.Error(), "hush")
}
