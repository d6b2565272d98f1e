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
// answer to the first denial at each sidecar, which is asked for just that revision at
// once: to ask again and again would measure who gets a core.
type Revocation struct {
	Changes  int     `json:"changes"`
	Sidecars int     `json:"sidecars"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	// Wrong counts answers at a change's revision or later that do not know it.
	Wrong int `json:"wrong"`
}

// changeInterval makes ten changes a second: a grant is given, and taken back.
const changeInterval = 200 * time.Millisecond

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

// run makes changes until enough says so, over all owners in turn.
func (w *watcher) run(ctx context.Context, enough func(made int) bool) (Revocation, error) {
	due := time.NewTicker(changeInterval)
	defer due.Stop()
	made := 0
	w.took, w.wrong = nil, 0
	for ; !enough(made); made++ {
		if err := w.change(ctx, made*37); err != nil {
			return Revocation{}, err
		}
		select {
		case <-due.C:
		case <-ctx.Done():
			return Revocation{}, ctx.Err()
		}
	}
	slices.Sort(w.took)
	return Revocation{
		Changes: made, Sidecars: len(w.sidecars), Wrong: w.wrong,
		P50: quantile(w.took, 0.5) / 1e3, P99: quantile(w.took, 0.99) / 1e3, Max: quantile(w.took, 1) / 1e3,
	}, nil
}

// change gives one grant, which must allow at its revision, and takes it back, which
// must deny at its own.
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
	if _, err := w.expect(ctx, ask, given, true); err != nil {
		return err
	}
	taken, err := w.admin.call(ctx, http.MethodDelete, path, "", nil, nil)
	if err != nil {
		return err
	}
	took, err := w.expect(ctx, ask, taken, false)
	if err != nil {
		return err
	}
	w.took = append(w.took, took...)
	_, err = w.expect(ctx, ask, 0, false) // whoever asks for no revision is denied from then on
	return err
}

// expect asks every sidecar at the same time, at a revision or a later one, and tells
// how long each took.
func (w *watcher) expect(ctx context.Context, ask policiestest.Question, atLeast policies.Revision, want bool) ([]time.Duration, error) {
	from := time.Now()
	took, errs, wrong := make([]time.Duration, len(w.sidecars)), make([]error, len(w.sidecars)), make([]bool, len(w.sidecars))
	var wait sync.WaitGroup
	for i := range w.sidecars {
		wait.Go(func() {
			d, err := w.check(ctx, i, ask, atLeast)
			took[i], errs[i], wrong[i] = time.Since(from), err, d.Decision != want || d.Context.Revision < atLeast
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, err
		}
		if wrong[i] {
			w.wrong++
		}
	}
	return took, nil
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
