package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// The standard platform of architecture.md ("How fast"): what one owner has.
const (
	standardOwners       = 1000
	standardEnvironments = 20
	standardGroups       = 5
	standardMembers      = 10
	standardGrants       = 50
	standardRoles        = 5
)

// standardDocument is the account document of the standard platform's owner n.
// Its members are other owners, so that importing all makes no other accounts.
func standardDocument(n, owners int) map[string]any {
	owner := fmt.Sprintf("owner-%d", n)
	groups := make([]any, standardGroups)
	for g := range groups {
		groups[g] = map[string]any{"id": fmt.Sprintf("%s-g%d", owner, g), "name": fmt.Sprintf("Group %d", g)}
		if g > 0 { // a chain of two below each of the first, and so nested
			groups[g].(map[string]any)["parent"] = fmt.Sprintf("%s-g%d", owner, (g-1)/2)
		}
	}
	environments := make([]any, standardEnvironments)
	for e := range environments {
		in := []string{}
		if e%4 != 0 {
			in = append(in, fmt.Sprintf("%s-g%d", owner, e%standardGroups))
		}
		id := fmt.Sprintf("%s-e%d", owner, e)
		environments[e] = map[string]any{"id": id, "name": id, "groups": in}
	}
	sets := [standardRoles][]string{
		{"environment.view", "container.view-logs"},
		{"environment.view", "environment.start", "environment.stop"},
		{"environment.view", "environment.edit", "container.ssh", "deployment.deploy"},
		{"account.billing"},
		{"environment.view", "environment.delete", "env-group.manage", "account.collaboration"},
	}
	roles := make([]any, standardRoles)
	for r := range roles {
		roles[r] = map[string]any{"id": fmt.Sprintf("r%d", r), "name": fmt.Sprintf("Role %d", r), "policies": sets[r]}
	}
	members := make([]any, standardMembers)
	for m := range members {
		account := fmt.Sprintf("owner-%d", (n+m+1)%owners)
		grants := make([]any, standardGrants/standardMembers)
		for g := range grants {
			resource := map[string]string{"type": "environment", "id": fmt.Sprintf("%s-e%d", owner, (m*7+g*3)%standardEnvironments)}
			switch g {
			case 0:
				resource = map[string]string{"type": "environments", "id": owner}
			case 1:
				resource = map[string]string{"type": "group", "id": fmt.Sprintf("%s-g%d", owner, m%standardGroups)}
			}
			grants[g] = map[string]any{"resource": resource, "roles": []string{fmt.Sprintf("r%d", (m+g)%standardRoles)}}
		}
		members[m] = map[string]any{"account": map[string]any{"id": account, "email": account + "@example.com"}, "grants": grants}
	}
	return map[string]any{
		"account": map[string]any{"id": owner, "email": owner + "@example.com"},
		"groups":  groups, "environments": environments, "roles": roles, "members": members,
	}
}

// importStandard imports the standard platform with this many owners, and says
// how long it took.
func (p *platform) importStandard(tb testing.TB, owners int) time.Duration {
	tb.Helper()
	var lines bytes.Buffer
	for n := range owners {
		line, err := json.Marshal(standardDocument(n, owners))
		require.NoError(tb, err)
		lines.Write(line)
		lines.WriteByte('\n')
	}
	began := time.Now()
	a, err := p.call(http.MethodPost, p.admin+"/v1/import", lines.Bytes(), map[string]string{"Content-Type": "application/x-ndjson"})
	took := time.Since(began)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, a.status, "%.2000s", a.body)
	var result struct {
		Imported []string `json:"imported"`
	}
	require.NoError(tb, json.Unmarshal(a.body, &result))
	require.Len(tb, result.Imported, owners, "%.2000s", a.body)
	return took
}

// BenchmarkImport imports the standard platform of 1,000 owners, 50,000 grants,
// into an empty one.
func BenchmarkImport(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p := startDev(b)
		b.StartTimer()
		took := p.importStandard(b, standardOwners)
		b.ReportMetric(standardOwners*standardGrants/took.Seconds(), "grants/s")
		b.StopTimer()
		p.stop(b, syscall.SIGTERM)
		b.StartTimer()
	}
}

// BenchmarkSingleChange has 16 writers change one grant at a time over REST, each
// write on disk before its 200.
func BenchmarkSingleChange(b *testing.B) {
	p := startDev(b)
	p.must(b, http.MethodPost, p.admin+"/v1/import", []any{document("own", "mia", writers)})
	mia := p.memberID(b, p.admin, "own", "mia")
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[string]
	b.ResetTimer()
	began := time.Now()
	for w := range writers {
		wg.Go(func() {
			url := fmt.Sprintf("%s/v1/accounts/own/members/%s/grants/environment/own-env-%d", p.admin, mia, w)
			for n := 0; next.Add(1) <= int64(b.N); n++ {
				method, body := http.MethodPut, any(map[string]any{"roles": []string{"viewer"}})
				if n%2 == 1 {
					method, body = http.MethodDelete, nil
				}
				if a, err := p.call(method, url, body, nil); err != nil || a.status >= 300 {
					text := fmt.Sprintf("%v %d %s", err, a.status, a.body)
					failed.CompareAndSwap(nil, &text)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if text := failed.Load(); text != nil {
		b.Fatal(*text)
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "writes/s")
}

// BenchmarkRevocation measures from a write's 200 to the first changed answer at
// a sidecar that is asked without a pause, and without min_revision.
func BenchmarkRevocation(b *testing.B) {
	p := startDev(b)
	p.importStandard(b, 100)
	p.must(b, http.MethodPost, p.admin+"/v1/import", []any{document("own", "mia", 1)})
	url := p.admin + "/v1/accounts/own/members/" + p.memberID(b, p.admin, "own", "mia") + "/grants/environment/own-env-0"
	ask := question{"mia", viewAction, "environment", "own-env-0"}
	for name, door := range map[string]string{"resident": p.resident, "on-demand": p.onDemand} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				a := p.must(b, http.MethodPut, url, map[string]any{"roles": []string{"viewer"}})
				d, err := p.evaluate(door, ask, a.revision)
				require.NoError(b, err)
				require.True(b, d.Decision)
				p.must(b, http.MethodDelete, url, nil)
				began := time.Now()
				for d.Decision {
					d, err = p.evaluate(door, ask, 0)
					require.NoError(b, err)
				}
				took = append(took, time.Since(began))
			}
			reportPercentiles(b, took)
		})
	}
}

// reportPercentiles reports p50 and p99 in milliseconds.
func reportPercentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
}
