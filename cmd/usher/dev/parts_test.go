package dev

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/policies"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The demo shows everything that there is to see: a tree, environments in several
// groups and in none, every status, every level, grants that end and that ended.
func TestDemoCompany(t *testing.T) {
	t.Parallel()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	now := time.Now()
	doc, err := policies.DecodeDocument([]byte(demoDocument(now)), policies.WithCatalogue(catalogue.Index()))
	require.NoError(t, err)
	require.Equal(t, policies.AccountID(DemoAccount), doc.Account.ID)

	depth := map[policies.GroupID]int{}
	for _, g := range doc.Groups {
		if g.Parent != nil {
			depth[g.ID] = depth[*g.Parent] + 1
		}
	}
	require.Equal(t, 2, depth["shop-prod-eu"])
	inGroups := map[int]int{}
	for _, e := range doc.Environments {
		inGroups[len(e.Groups)]++
	}
	require.Positive(t, inGroups[0])
	require.Positive(t, inGroups[1])
	require.Positive(t, inGroups[2])

	statuses := map[policies.Status]bool{policies.StatusRemoved: true} // made by a call, see importDemo
	types := map[policies.ResourceType]bool{}
	ends, ended := 0, 0
	for _, m := range doc.Members {
		statuses[m.Status] = true
		for _, g := range m.Grants {
			types[g.Resource.Type] = true
			switch {
			case g.ExpiresAt == nil:
			case g.ExpiresAt.After(now):
				ends++
			default:
				ended++
			}
		}
	}
	for _, s := range policies.Statuses {
		require.True(t, statuses[s], s)
	}
	for _, r := range policies.ResourceTypes {
		require.True(t, types[r], r)
	}
	require.Positive(t, ends)
	require.Positive(t, ended)
	require.Contains(t, demo, demoRemoved)

	examples := map[string]bool{}
	for _, role := range catalogue.Roles {
		examples[role.Name] = true
	}
	own := 0
	for _, role := range doc.Roles {
		if !examples[role.Name] {
			own++
			continue
		}
		delete(examples, role.Name)
	}
	require.Empty(t, examples, "the catalogue's examples are there")
	require.Positive(t, own)
}

func TestEnvFileReadByShells(t *testing.T) {
	t.Parallel()
	values := []variable{
		{"USHER_A", "http://127.0.0.1:8080"}, {"USHER_B", "postgres://u:p@h:1/d?sslmode=disable&x=1"},
		{"USHER_C", "it's $HOME `id` \\ \"quoted\" #no *"}, {"USHER_D", ""}, {"USHER_E", "~/x ÄÖ\n2"},
	}
	path := filepath.Join(t.TempDir(), "dev.env")
	require.NoError(t, os.WriteFile(path, envFile(values), 0o600))
	for _, shell := range []string{"sh", "bash"} {
		for _, read := range []string{`set -a; . "$0"; set +a`, `. "$0"`} {
			show := `; printf '%s|' "$USHER_A" "$USHER_B" "$USHER_C" "$USHER_D" "$USHER_E"`
			out, err := exec.CommandContext(t.Context(), shell, "-euc", read+show, path).CombinedOutput()
			require.NoError(t, err, string(out))
			want := ""
			for _, v := range values {
				want += v.value + "|"
			}
			require.Empty(t, cmp.Diff(want, string(out)), "%s: %s", shell, read)
		}
	}
	require.Contains(t, string(envFile(values)), "USHER_A=http://127.0.0.1:8080\n", "what needs no quotes has none")
}

func TestStateSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := loadState(dir)
	require.NoError(t, err)
	first.Token, first.DemoImported = "ush_x", true
	require.NoError(t, first.save())
	again, err := loadState(dir)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Len(t, again.OwnerPassword, 2*passwordBytes)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600))
	_, err = loadState(dir)
	require.ErrorContains(t, err, "remove "+dir+" to start anew")

	path, keys, err := keyFile(dir)
	require.NoError(t, err)
	_, same, err := keyFile(dir)
	require.NoError(t, err)
	require.Equal(t, keys, same)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestLockIsForOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := takeLock(dir)
	require.NoError(t, err)
	_, err = takeLock(dir)
	var running *RunningError
	require.ErrorAs(t, err, &running)
	require.NoError(t, first.release())
	second, err := takeLock(dir)
	require.NoError(t, err)
	require.NoError(t, second.release())
}

// A child that was forked a moment ago still holds the file: letting go must not
// wait for it.
func TestLockIsLetGoWhileAChildHasTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := takeLock(dir)
	require.NoError(t, err)
	inherited, err := syscall.Dup(int(first.file.Fd()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(inherited)) })
	require.NoError(t, first.release())
	second, err := takeLock(dir)
	require.NoError(t, err)
	require.NoError(t, second.release())
}

// The admin server may know the token a moment later.
func TestDemoImportWaitsForTheToken(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case asked.Add(1) <= 2:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet:
			_, _ = io.WriteString(w, `{"items": [{"id": "nora"}]}`)
		}
	}))
	t.Cleanup(admin.Close)
	require.NoError(t, importDemo(t.Context(), admin.URL, "ush_x", time.Now()))
	require.EqualValues(t, 5, asked.Load())

	never := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(never.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, importDemo(ctx, never.URL, "ush_x", time.Now()))
}

func TestStackUnwindsAllInReverse(t *testing.T) {
	t.Parallel()
	var s stack
	var order []string
	bad := errors.New("stuck")
	for _, name := range []string{"a", "b", "c"} {
		s.push(name, func(context.Context) error {
			order = append(order, name)
			if name == "b" {
				return bad
			}
			return nil
		})
	}
	err := s.unwind(t.Context())
	require.ErrorIs(t, err, bad)
	require.ErrorContains(t, err, "stop b")
	require.Equal(t, []string{"c", "b", "a"}, order)
	require.NoError(t, s.unwind(t.Context()))
}

// A Redis on our port that takes our password is what an earlier run left; any
// other is somebody else's, and left alone.
func TestRedisIsTakenOver(t *testing.T) {
	t.Parallel()
	st, err := loadState(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, choosePort(t.Context(), &st.RedisPort, st))
	log := slog.New(slog.DiscardHandler)
	orphan, err := redisserver.Start(t.Context(), redisserver.Options{Port: st.RedisPort, Password: st.RedisPassword})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, orphan.Stop(context.Background())) })

	foreign := *st
	foreign.RedisPassword = "another"
	other, err := startRedis(t.Context(), t.TempDir(), &foreign, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Stop(context.Background())) })
	require.NotEqual(t, orphan.Addr(), other.Addr())
	require.True(t, portTaken(t.Context(), st.RedisPort), "the one that is not ours lives")

	port := st.RedisPort
	ours, err := startRedis(t.Context(), t.TempDir(), st, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ours.Stop(context.Background())) })
	<-orphan.Done()
	require.Equal(t, port, st.RedisPort)
	require.Equal(t, orphan.Addr(), ours.Addr())
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no port":      {Options{AdminListen: "127.0.0.1"}, "--admin-listen must be HOST:PORT"},
		"port's range": {Options{SidecarListen: "127.0.0.1:65536"}, "0 to 65535"},
		"everywhere":   {Options{SidecarListen: ":8181"}, "--sidecar-listen must be on loopback"},
		"both wrong":   {Options{AdminListen: "x", SidecarListen: "y"}, "--sidecar-listen must be HOST:PORT"},
		"the same":     {Options{AdminListen: "127.0.0.1:1", SidecarListen: "127.0.0.1:1"}, "must differ"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, c.o.validate(), c.want)
		})
	}
	o := Options{AdminListen: "localhost:0", SidecarListen: "[::1]:0"}
	require.NoError(t, o.validate())
	require.True(t, strings.HasSuffix(o.Dir, "/"+DefaultDir))
}
