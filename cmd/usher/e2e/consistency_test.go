package e2e

import (
	"fmt"
	"net/http"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

const (
	writers      = 16
	readers      = 16
	writesEach   = 12
	viewAction   = "environment.control.GetEnvInfo"
	systemViewer = "environment.view"
)

// document is a small account with one role and a member without grants.
func document(owner, member string, environments int) map[string]any {
	envs := make([]any, environments)
	for i := range envs {
		id := fmt.Sprintf("%s-env-%d", owner, i)
		envs[i] = map[string]any{"id": id, "name": id, "groups": []string{}}
	}
	return map[string]any{
		"account":      map[string]any{"id": owner, "email": owner + "@example.com"},
		"environments": envs,
		"roles":        []any{map[string]any{"id": "viewer", "name": "Viewer", "policies": []string{systemViewer}}},
		"members": []any{map[string]any{
			"account": map[string]any{"id": member, "email": member + "@example.com"}, "status": "active",
		}},
	}
}

// memberID is the id of the member with this account.
func (p *platform) memberID(tb testing.TB, admin, owner, account string) string {
	tb.Helper()
	a := p.must(tb, http.MethodGet, admin+"/v1/accounts/"+owner+"/members?limit=100", nil)
	var list struct {
		Items []struct {
			ID      string `json:"id"`
			Account string `json:"account"`
		} `json:"items"`
	}
	require.NoError(tb, json.Unmarshal(a.body, &list))
	for _, item := range list.Items {
		if item.Account == account {
			return item.ID
		}
	}
	tb.Fatalf("owner %s has no member %s: %s", owner, account, a.body)
	return ""
}

// written is one acknowledged write, for the order of revisions.
type written struct {
	began, ended time.Time
	revision     uint64
}

// TestAcknowledgedWritesAreSeen has 16 writers, each of which changes a grant of
// its own and then demands the revision of its write at every door, while 16
// readers ask two questions whose answers one revision always changes together.
func TestAcknowledgedWritesAreSeen(t *testing.T) {
	p := startDev(t)
	p.must(t, http.MethodPost, p.admin+"/v1/import", []any{document("own", "mia", writers), document("pair", "pim", 2)})
	mia, pim := p.memberID(t, p.admin, "own", "mia"), p.memberID(t, p.admin, "pair", "pim")
	doors := []string{p.admin, p.resident, p.onDemand}

	var (
		all    []written
		mu     sync.Mutex
		failed atomic.Pointer[string]
		stop   = make(chan struct{})
		wg     sync.WaitGroup
		reads  sync.WaitGroup
	)
	fail := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		failed.CompareAndSwap(nil, &text)
	}
	write := func(method, url string, body any) (uint64, bool) {
		began := time.Now()
		a, err := p.call(method, url, body, nil)
		if err != nil || a.status >= 300 {
			fail("%s %s: %v %d %s", method, url, err, a.status, a.body)
			return 0, false
		}
		mu.Lock()
		all = append(all, written{began, time.Now(), a.revision})
		mu.Unlock()
		return a.revision, true
	}
	for i := range writers {
		wg.Go(func() {
			env := fmt.Sprintf("own-env-%d", i)
			url := p.admin + "/v1/accounts/own/members/" + mia + "/grants/environment/" + env
			for n := range writesEach {
				method, body := http.MethodPut, any(map[string]any{"roles": []string{"viewer"}})
				if n%2 == 1 {
					method, body = http.MethodDelete, nil
				}
				revision, ok := write(method, url, body)
				if !ok {
					return
				}
				for _, door := range doors {
					d, err := p.evaluate(door, question{"mia", viewAction, "environment", env}, revision)
					switch {
					case err != nil:
						fail("%s at revision %d: %v", door, revision, err)
					case d.Context.Revision < revision:
						fail("%s answered from revision %d, %d was demanded", door, d.Context.Revision, revision)
					case d.Decision != (n%2 == 0):
						fail("%s: %s is %v after write %d of revision %d (%s)", door, env, d.Decision, n, revision, d.Context.Reason)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 4 * writesEach {
			grant := map[string]any{
				"resource": map[string]string{"type": "environment", "id": fmt.Sprintf("pair-env-%d", n%2)}, "roles": []string{"viewer"},
			}
			if _, ok := write(http.MethodPut, p.admin+"/v1/accounts/pair/members/"+pim+"/grants", map[string]any{"grants": []any{grant}}); !ok {
				return
			}
		}
	})
	for i := range readers {
		reads.Go(func() {
			door, last := doors[i%len(doors)], uint64(0)
			questions := []question{
				{"pim", viewAction, "environment", "pair-env-0"}, {"pim", viewAction, "environment", "pair-env-1"},
			}
			for {
				select {
				case <-stop:
					return
				default:
				}
				answers, err := p.evaluateAll(door, questions, 0)
				if err != nil {
					fail("%s: %v", door, err)
					return
				}
				a, b := answers[0], answers[1]
				switch {
				case a.Context.Revision != b.Context.Revision:
					fail("%s: one batch has revisions %d and %d", door, a.Context.Revision, b.Context.Revision)
				case a.Context.Revision < last:
					fail("%s went back from revision %d to %d", door, last, a.Context.Revision)
				case a.Decision && b.Decision:
					fail("%s mixed two revisions at %d", door, a.Context.Revision)
				}
				last = a.Context.Revision
			}
		})
	}
	wg.Wait()
	close(stop)
	reads.Wait()
	if text := failed.Load(); text != nil {
		t.Fatal(*text)
	}

	// Number order is commit order: a write that began after another was
	// acknowledged has the greater revision, and no two have the same.
	sort.Slice(all, func(i, j int) bool { return all[i].revision < all[j].revision })
	latestBegin := time.Time{}
	for i, w := range all {
		if i > 0 {
			require.NotEqual(t, all[i-1].revision, w.revision)
		}
		require.False(t, w.ended.Before(latestBegin),
			"revision %d was acknowledged before a lower revision's write began", w.revision)
		if w.began.After(latestBegin) {
			latestBegin = w.began
		}
	}
}
