package admin_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/usher-authz/usher/policies"
)

// BenchmarkScaleWrites prints what a change of one grant costs in a large account, as a
// ratio to that in a small one, and how long the dry run of a role takes that ten
// thousand grants use.
func BenchmarkScaleWrites(b *testing.B) {
	s := startScale(b, 10_000, 0)
	b.Run("grant", func(b *testing.B) {
		big, small := s.grantChanger("big"), s.grantChanger("small")
		var took [2]time.Duration
		n := 0
		for b.Loop() {
			n++
			for i, change := range []func() policies.Revision{small, big} { // in turn, so that other work weighs on both
				start := time.Now()
				change()
				took[i] += time.Since(start)
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(took[1].Seconds()*1000/float64(n), "ms/change")
		b.ReportMetric(took[0].Seconds()*1000/float64(n), "ms/change-small")
		b.ReportMetric(float64(took[1])/float64(took[0]), "ratio")
	})
	for name, change := range map[string]map[string]any{
		"gains": {"policies": []string{"environment.view", "environment.start"}}, "same": {"name": "Renamed"},
		"loses": {"policies": []string{}},
	} {
		for _, role := range []string{"common", "big-r-1", "big-r-4"} {
			b.Run("dry-run/"+name+"/"+role, func(b *testing.B) {
				for b.Loop() {
					a := s.do(http.MethodPatch, "/v1/accounts/big/roles/"+role+"?dry_run=true", change)
					if a.status != http.StatusOK {
						b.Fatal(a.status, string(a.body))
					}
					b.ReportMetric(float64(a.len("impact")), "items")
				}
			})
		}
	}
}

// grantChanger changes one grant of one member of an account, each time to another role.
func (s *scale) grantChanger(owner string) func() policies.Revision {
	member := s.do(http.MethodGet, "/v1/accounts/"+owner+"/members?limit=1&status=active", nil).text("items.0.id")
	turn := 0
	return func() policies.Revision {
		turn++
		a := s.do(http.MethodPut, fmt.Sprintf("/v1/accounts/%s/members/%s/grants/environment/%s-e-7", owner, member, owner),
			map[string]any{"roles": []string{[]string{"common", "manager"}[turn%2]}})
		if a.status >= http.StatusBadRequest {
			s.t.Fatal(a.status, string(a.body))
		}
		return a.revision()
	}
}
