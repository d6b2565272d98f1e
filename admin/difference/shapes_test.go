package difference_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/policies/policiestest"
)

// What is explained by shape, and kept over changes, is what Rego says of each member
// by itself.
func TestExplainIsWhatRegoSaysOfTheMember(t *testing.T) {
	t.Parallel()
	ctx, policy := context.Background(), embeddedPolicy(t)
	var shapes difference.Shapes
	asked, evaluated := 0, map[*difference.Explained]bool{}
	for seed := range uint64(2) {
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, testNow)
		require.NoError(t, err)
		for _, doc := range world.Documents {
			state := build(t, policy, doc)
			for round := range 3 {
				account, ok := state.Account(doc.Account.ID)
				require.True(t, ok)
				for _, at := range world.Instants() {
					asker := shapes.NewAsker(state, doc.Account.ID)
					for m := range account.Members() {
						for _, r := range resourcesOf(doc) {
							if m.Account() == "" || at.Year() > 2261 {
								continue
							}
							got, err := asker.Explain(ctx, at, m, r)
							require.NoError(t, err)
							want, err := policy.Effective(ctx, state, at, m.Account(), r)
							require.NoError(t, err)
							levels, err := policy.Levels(ctx, state, at, m.Account(), r)
							require.NoError(t, err)
							require.Equal(t, &difference.Explained{Level: want.Level, Roles: want.Roles, ReceiveLoadAlerts: want.ReceiveLoadAlerts, Levels: levels}, got,
								"seed %d: %s on %v at %v", seed, m.Account(), r, at)
							asked++
							evaluated[got] = true
						}
					}
				}
				next := mutate(dice, doc)
				next.Roles[0].Name = fmt.Sprint("renamed ", round)
				changed, err := state.With(ctx, differing(t, doc, next))
				require.NoError(t, err)
				doc, state = next, changed
			}
		}
	}
	require.Less(t, len(evaluated), asked/4)
}
