package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// Revocation is how soon a change counts. Times are in milliseconds, from the admin's
// answer to the first denial at each sidecar.
type Revocation struct {
	Changes  int     `json:"changes"`
	Sidecars int     `json:"sidecars"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	// Wrong counts answers at a change's revision or later that do not know it.
	Wrong int `json:"wrong"`
}

// watcher gives grants and takes them back, one after the other, and watches when
// each sidecar knows.
type watcher struct {
	admin    *admin
	platform *platform
	sidecars []*child
	conns    []*conn
	members  map[policies.AccountID]policies.CollaborationID

	took  []time.Duration
	wrong int
}

func newWatcher(a *admin, p *platform, sidecars []*child) *watcher {
	return &watcher{
		admin: a, platform: p, sidecars: sidecars, conns: make([]*conn, len(sidecars)),
		members: map[policies.AccountID]policies.CollaborationID{},
	}
}

func (w *watcher) close() {
	for _, c := range w.conns {
		if c != nil {
			c.close()
		}
	}
}

// run makes changes, n of them and then more until enough says so, over all owners in
// turn.
func (w *watcher) run(ctx context.Context, n int, enough func() bool) (Revocation, error) {
	made := 0
	for ; made < n || !enough(); made++ {
		if err := w.change(ctx, made*37); err != nil {
			return Revocation{}, err
		}
	}
	slices.Sort(w.took)
	return Revocation{
		Changes: made, Sidecars: len(w.sidecars), Wrong: w.wrong,
		P50: quantile(w.took, 0.5) / 1e3, P99: quantile(w.took, 0.99) / 1e3, Max: quantile(w.took, 1) / 1e3,
	}, nil
}

// change gives one grant, which must allow at its revision, and takes it back, which
// must deny at its own, and at every sidecar soon.
func (w *watcher) change(ctx context.Context, n int) error {
	d, environment, ask := w.platform.change(n)
	owner := d.Account.ID
	member, ok := w.members[owner]
	if !ok {
		var err error
		if member, err = w.admin.memberID(ctx, owner, policies.AccountID(ask.Subject)); err != nil {
			return err
		}
		w.members[owner] = member
	}
	path := fmt.Sprintf("/v1/accounts/%s/members/%s/grants/environment/%s", owner, member, environment)
	grant, err := json.Marshal(map[string][]policies.RoleID{"roles": {d.Roles[revocable].ID}})
	if err != nil {
		return err
	}
	given, err := w.admin.call(ctx, http.MethodPut, path, "application/json", grant, nil)
	if err != nil {
		return err
	}
	if err := w.expect(ctx, ask, given, true); err != nil {
		return err
	}
	taken, err := w.admin.call(ctx, http.MethodDelete, path, "", nil, nil)
	if err != nil {
		return err
	}
	if err := w.watch(ctx, ask, time.Now()); err != nil {
		return err
	}
	return w.expect(ctx, ask, taken, false)
}

// expect asks every sidecar at a revision or a later one.
func (w *watcher) expect(ctx context.Context, ask policiestest.Question, atLeast policies.Revision, want bool) error {
	for i := range w.sidecars {
		d, err := w.check(ctx, i, ask, atLeast)
		if err != nil {
			return err
		}
		if d.Decision != want || d.Context.Revision < atLeast {
			w.wrong++
		}
	}
	return nil
}

// watch asks every sidecar until it denies.
func (w *watcher) watch(ctx context.Context, ask policiestest.Question, from time.Time) error {
	took, errs := make([]time.Duration, len(w.sidecars)), make([]error, len(w.sidecars))
	var wait sync.WaitGroup
	for i := range w.sidecars {
		wait.Go(func() {
			for allowed := true; allowed && errs[i] == nil; {
				var d decision
				d, errs[i] = w.check(ctx, i, ask, 0)
				allowed = d.Decision
				if ctx.Err() != nil {
					errs[i] = ctx.Err()
				}
			}
			took[i] = time.Since(from)
		})
	}
	wait.Wait()
	w.took = append(w.took, took...)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// check connects when it first asks: a server lets go of who connects and says nothing.
func (w *watcher) check(ctx context.Context, i int, ask policiestest.Question, atLeast policies.Revision) (decision, error) {
	var d decision
	body, err := checkBody(ask, atLeast)
	if err != nil {
		return d, err
	}
	if w.conns[i] == nil {
		if w.conns[i], err = dial(ctx, w.sidecars[i].address); err != nil {
			return d, err
		}
	}
	answer, err := w.conns[i].do(request(pathEvaluation, w.sidecars[i].address, w.admin.token, body))
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(answer, &d)
}
