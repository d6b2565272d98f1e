package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// run runs one command in this process.
func run(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = Run(t.Context(), args, Process{
		Stdin: bytes.NewReader(nil), Stdout: &out, Stderr: &errOut,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	return code, out.String(), errOut.String()
}

// readyServer answers /ready, and says at which URL.
func readyServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestLogIsForPeople: times in the log are read by people, in JSON too.
func TestLogIsForPeople(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var to bytes.Buffer
		log, err := logging{LogLevel: "info", LogFormat: format}.logger(&to)
		require.NoError(t, err)
		log.Info("lost", "retry_in", 1500*time.Millisecond)
		require.Contains(t, strings.ReplaceAll(to.String(), `"`, ""), map[string]string{"json": "retry_in:1.5s", "text": "retry_in=1.5s"}[format])
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	ready := readyServer(t)[len("http://"):]
	const nobody = "127.0.0.1:1"
	file := func(t *testing.T, content string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "usher.yaml")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		file string
		env  map[string]string
		args []string
		code int
	}{
		"flag beats environment and file":       {"listen: " + nobody, map[string]string{"USHER_LISTEN": nobody}, []string{"--listen", ready}, 0},
		"environment beats file":                {"listen: " + nobody, map[string]string{"USHER_LISTEN": ready}, nil, 0},
		"environment beats file, the other way": {"listen: " + ready, map[string]string{"USHER_LISTEN": nobody}, nil, 1},
		"file beats default":                    {"listen: " + ready, nil, nil, 0},
		"dashes do too":                         {"admin-url: http://x\nlisten: " + ready, nil, nil, 0},
		"an empty variable is not set":          {"listen: " + ready, map[string]string{"USHER_LISTEN": ""}, nil, 0},
		"other commands' variables are ignored": {"listen: " + ready, map[string]string{"USHER_CACHE_LIMIT": "rubbish", "USHER_MODE": "rubbish"}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := run(t, c.env, append([]string{"health", "--config", file(t, c.file)}, c.args...)...)
			require.Equal(t, c.code, code, stderr)
		})
	}
	t.Run("the file may come from the environment", func(t *testing.T) {
		t.Parallel()
		code, _, stderr := run(t, map[string]string{"USHER_CONFIG": file(t, "listen: "+ready)}, "health")
		require.Zero(t, code, stderr)
	})
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		env  map[string]string
		args []string
		want string
	}{
		"unknown key":      {"lisen: 127.0.0.1:1", nil, []string{"health"}, `unknown key "lisen"`},
		"key twice":        {"database_url: a\ndatabase-url: b", nil, []string{"health"}, "twice"},
		"same key twice":   {"listen: a\nlisten: b", nil, []string{"health"}, "already defined"},
		"config as a key":  {"config: x.yaml", nil, []string{"health"}, `unknown key "config"`},
		"not a map":        {"- listen", nil, []string{"health"}, "not a YAML map"},
		"a list for one":   {"listen: [a, b]", nil, []string{"health"}, "wants one value"},
		"wrong type, file": {"cache_limit: many", nil, []string{"sidecar"}, "cache_limit"},
		"wrong type, env":  {"", map[string]string{"USHER_CACHE_LIMIT": "many"}, []string{"sidecar"}, "$USHER_CACHE_LIMIT"},
		"wrong word":       {"mode: both", nil, []string{"sidecar"}, "resident, on-demand"},
		"unknown flag":     {"", nil, []string{"health", "--lisen=1"}, "--lisen"},
		"unknown command":  {"", nil, []string{"serve"}, "serve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "usher.yaml")
			require.NoError(t, os.WriteFile(path, []byte(c.file), 0o600))
			code, stdout, stderr := run(t, c.env, append(c.args, "--config", path)...)
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		})
	}
	code, _, stderr := run(t, nil, "health", "--config", "/nowhere/usher.yaml")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "/nowhere/usher.yaml")
}
