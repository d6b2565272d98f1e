package authz

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

func TestVectors(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			clock := newTestClock()
			e := newTestEngine(t, Options{Clock: clock.now})
			docs := []policies.Document{v.Document}
			require.NoError(t, e.Reset(buildState(t, p, testHeader(7), objectsOf(t, p, docs))))
			model := policiestest.Model{Catalogue: p.Source().Catalogue, Documents: docs}
			for _, c := range v.Checks {
				for range 2 { // evaluated, then from the cache
					d, err := e.Check(context.Background(), 7, asQuestion(c.Question()))
					require.NoError(t, err)
					got := policiestest.VectorCheck{
						Subject: c.Subject, Action: c.Action, Resource: c.Resource,
						Decision: d.Allow, Reason: d.Reason, Level: d.Level, Roles: d.Roles, Policies: d.Policies,
					}
					require.Empty(t, cmp.Diff(c, got), "%s: %s", v.Name, v.Why)
					require.Empty(t, cmp.Diff(expected(model.Check(c.Question(), clock.now()), 7), d))
				}
			}
		})
	}
}
