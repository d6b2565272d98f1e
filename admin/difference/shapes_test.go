package difference_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/policies"
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

// A role that many grants use is compared by shape: what each grant more costs is far
// less than an evaluation, of a thousand allocations, and a new name costs nothing.
// Allocations are counted, so no other test may run meanwhile.
func TestARoleThatManyUseCostsFewEvaluations(t *testing.T) {
	policy := embeddedPolicy(t)
	cost := func(members int, change func(*policies.Role)) float64 {
		doc := policies.Document{Account: policies.Account{ID: "own"}, Roles: []policies.Role{{ID: "r", Name: "R", Policies: []policies.PolicyID{"environment.view"}}}}
		for i := range members {
			account := policies.AccountID(fmt.Sprint("m", i))
			environment := fmt.Sprint("e", i)
			doc.Environments = append(doc.Environments, policies.Environment{ID: policies.EnvironmentID(environment)})
			doc.Members = append(doc.Members, policies.DocumentMember{
				Account: policies.DocumentAccount{ID: &account, Email: string(account)}, Status: policies.StatusActive,
				Grants: []policies.Grant{{Resource: policies.Resource{Type: policies.TypeEnvironment, ID: environment}, Roles: []policies.RoleID{"r"}}},
			})
		}
		next := doc
		next.Roles = slices.Clone(doc.Roles)
		change(&next.Roles[0])
		before := build(t, policy, doc)
		objects := differing(t, doc, next)
		require.Len(t, objects, 1)
		after, err := before.With(context.Background(), objects)
		require.NoError(t, err)
		return testing.AllocsPerRun(1, func() {
			_ = found(t, difference.Change{Before: before, After: after, Objects: objects}, difference.Options{Now: testNow})
		})
	}
	adds := func(r *policies.Role) { r.Policies = append(slices.Clone(r.Policies), "environment.start") }
	require.Less(t, (cost(1100, adds)-cost(100, adds))/1000, 100.0)
	renames := func(r *policies.Role) { r.Name = "new" }
	require.Less(t, cost(1100, renames), 1100.0)
}
