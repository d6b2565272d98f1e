package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func TestThePlatformIsTheStandardOne(t *testing.T) {
	t.Parallel()
	p, err := generate(1, MinOwners)
	require.NoError(t, err)
	again, err := generate(1, MinOwners)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(p.documents, again.documents), "a seed makes one platform")
	other, err := generate(2, MinOwners)
	require.NoError(t, err)
	require.NotEmpty(t, cmp.Diff(p.documents, other.documents))

	for _, d := range p.documents {
		encoded, err := json.Marshal(d)
		require.NoError(t, err)
		_, err = policies.DecodeDocument(encoded)
		require.NoError(t, err, "an import takes it")
		grants := 0
		for _, m := range d.Members {
			grants += len(m.Grants)
		}
		require.Equal(t, []int{20, 5, 10, 50, 5}, []int{len(d.Environments), len(d.Groups), len(d.Members), grants, len(d.Roles)})
	}

	questions := p.questions(1000)
	require.Equal(t, questions, again.questions(1000))
	reasons := map[policies.Reason]int{}
	levels := map[policies.Level]int{}
	for _, q := range questions {
		reasons[q.want.Reason]++
		levels[q.want.Level]++
	}
	require.Greater(t, reasons[policies.ReasonGranted], 100)
	require.Greater(t, reasons[policies.ReasonActionNotGranted], 100)
	for _, level := range []policies.Level{policies.LevelDirect, policies.LevelSharedEnvGroups, policies.LevelBase} {
		require.Positive(t, levels[level], level)
	}
}

// What is watched by a change depends on that change alone.
func TestChangesDecide(t *testing.T) {
	t.Parallel()
	p, err := generate(1, MinOwners)
	require.NoError(t, err)
	d, environment, ask := p.change(3)
	without := question{Question: ask}
	model := modelOf(p, d)
	without.want = model.Check(ask, time.Now())
	require.Equal(t, policies.ReasonActionNotGranted, without.want.Reason)
	m := &d.Members[membersEach-1]
	m.Grants = append(m.Grants, policies.Grant{
		Resource: policies.Resource{Type: policies.TypeEnvironment, ID: string(environment)}, Roles: []policies.RoleID{d.Roles[revocable].ID},
	})
	model = modelOf(p, d)
	require.True(t, model.Check(ask, time.Now()).Decision)
}

// A server that lies, fails or hangs up is found out.
func TestWrongAnswersAreCounted(t *testing.T) {
	t.Parallel()
	p, err := generate(1, MinOwners)
	require.NoError(t, err)
	var q question
	for _, q = range p.questions(100) {
		if q.want.Decision {
			break
		}
	}
	right := answerTo(q, 7)
	for name, c := range map[string]struct {
		status        int
		first, then   string
		wrong, failed bool
	}{
		"right, at another revision": {http.StatusOK, right, answerTo(q, 8), false, false},
		"another role":               {http.StatusOK, right, strings.Replace(right, "Role", "Rolf", 1), true, false},
		"another decision":           {http.StatusOK, right, strings.Replace(right, "true", "false", 1), true, false},
		"something after it":         {http.StatusOK, right, strings.Replace(right, "7}}", "7,\"roles\":[]}}", 1), true, false},
		"no JSON":                    {http.StatusOK, "nonsense", "nonsense", true, false},
		"a failure":                  {http.StatusServiceUnavailable, "", "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := true
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				body := c.then
				if first {
					body, first = c.first, false
				}
				_, _ = w.Write([]byte(body))
			}))
			defer web.Close()
			self, err := os.FindProcess(os.Getpid())
			require.NoError(t, err)
			server := &child{address: web.Listener.Addr().String(), cmd: &exec.Cmd{Process: self}}
			asked := &target{
				server: server, address: server.address, checks: 1, right: rightOne([]question{q}), requests: [][]byte{request(pathEvaluation, server.address, "", nil)},
			}
			require.NoError(t, asked.round(t.Context(), 1, 50*time.Millisecond))
			require.Equal(t, c.wrong, asked.wrong > 0, asked.firstBad)
			require.Equal(t, c.failed, asked.errors > 0, asked.firstBad)
			b := &bench{targets: []*target{asked}}
			var wrong *WrongError
			if c.wrong || c.failed {
				require.ErrorAs(t, b.verdict(), &wrong)
				return
			}
			require.NoError(t, b.verdict())
			require.NotEmpty(t, asked.latencies)
		})
	}
}

func answerTo(q question, revision int) string {
	list := func(n int, of func(int) string) string {
		var quoted []string
		for i := range n {
			quoted = append(quoted, fmt.Sprintf("%q", of(i)))
		}
		return strings.Join(quoted, ",")
	}
	return fmt.Sprintf(`{"decision":%t,"context":{"reason":%q,"level":%q,"roles":[%s],"policies":[%s],"owner":%q,"revision":%d}}`,
		q.want.Decision, q.want.Reason, q.want.Level,
		list(len(q.want.Roles), func(i int) string { return q.want.Roles[i] }),
		list(len(q.want.Policies), func(i int) string { return string(q.want.Policies[i]) }), q.want.Owner, revision)
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Options{Owners: MinOwners - 1})
	for _, want := range []string{"--owners must be at least 11", "--connections", "--sidecars", "--changes", "--duration"} {
		require.ErrorContains(t, err, want)
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	require.Empty(t, histogram(nil))
	got := histogram([]time.Duration{11 * time.Microsecond, 20 * time.Microsecond, 20*time.Microsecond + 1, 99 * time.Microsecond, 1500 * time.Microsecond})
	var want []Bucket
	for i, n := range []int{2, 1, 1, 0, 0, 0, 1} {
		want = append(want, Bucket{[]float64{20, 50, 100, 200, 500, 1000, 2000}[i], n})
	}
	require.Equal(t, want, got)
	encoded, err := json.Marshal(got[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"up_to_us": 20, "requests": 2}`, string(encoded))

	var table strings.Builder
	report := Report{Loads: []Load{{Name: "one", Histogram: got[:3]}, {Name: "other", Histogram: got[2:]}}}
	require.NoError(t, report.WriteTable(&table))
	var lines []string
	for line := range strings.Lines(table.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	require.Contains(t, lines, "requests within 20µs 50µs 100µs 200µs 500µs 1ms 2ms")
	require.Contains(t, lines, "one 2 1 1 0 0 0 0")
	require.Contains(t, lines, "other 0 0 1 0 0 0 1")
}
