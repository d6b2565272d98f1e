package rego_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/rego"
)

// platform is one owner with that many environments in five nested groups, as
// many members and grants, and ten policies of five actions in each of five roles.
func platform(environments int) map[string]any {
	type object = map[string]any
	systemPolicies, known := object{}, object{}
	for p := range 50 {
		actions := object{}
		for a := range 5 {
			actions[fmt.Sprintf("service.p%d.Action%d", p, a)] = true
			known[fmt.Sprintf("service.p%d.Action%d", p, a)] = true
		}
		systemPolicies[fmt.Sprintf("p%d", p)] = object{"resources": object{"environment": true}, "actions": actions}
	}
	roles := object{}
	for r := range 5 {
		var policies []any
		for p := range 10 {
			policies = append(policies, fmt.Sprintf("p%d", r*10+p))
		}
		roles[fmt.Sprintf("r%d", r)] = object{"name": fmt.Sprintf("Role %d", r), "policies": policies, "receive_load_alerts": r == 0}
	}
	groups, owned, members, subjects := object{}, object{}, object{}, object{"owner": true}
	for g := range 5 {
		ancestors := []any{}
		for a := g - 1; a >= 0; a-- {
			ancestors = append(ancestors, fmt.Sprintf("g%d", a))
		}
		groups[fmt.Sprintf("g%d", g)] = object{"ancestors": ancestors}
	}
	places := object{}
	for e := range environments {
		id := fmt.Sprintf("e%d", e)
		owned[id] = "owner"
		places[id] = object{"groups": []any{fmt.Sprintf("g%d", e%5)}}
		member := fmt.Sprintf("m%d", e)
		subjects[member] = true
		members[member] = object{"id": "c" + member, "status": "active", "grants": object{
			"environment": object{id: object{"roles": []any{"r1"}}},
			"group":       object{"g0": object{"roles": []any{"r0", "r2"}, "expires_at": "2997-01-01T00:00:00Z", "expires_at_ns": 3.24e19}},
		}}
	}
	return object{"usher": object{
		"revision": 7, "subjects": subjects,
		"catalogue": object{"policies": systemPolicies, "actions": known},
		"owners":    object{"environment": owned},
		"accounts": object{"owner": object{
			"actions": object{}, "groups": groups, "environments": places, "policies": object{}, "roles": roles, "members": members,
		}},
	}}
}

// BenchmarkEvaluation measures one evaluation on OPA's own store, for small and
// large accounts: what a question does not touch must cost nothing.
func BenchmarkEvaluation(b *testing.B) {
	modules := []func(*opa.Rego){}
	for path, source := range rego.Modules() {
		modules = append(modules, opa.Module(path, source))
	}
	for _, environments := range []int{10, 1000, 100_000} {
		store := inmem.NewFromObjectWithOpts(platform(environments), inmem.OptReturnASTValuesOnRead(true))
		for _, query := range []string{"effective", "decision"} {
			prepared, err := opa.New(append(modules, opa.Query("data.usher.authz."+query), opa.Store(store))...).PrepareForEval(context.Background())
			require.NoError(b, err)
			for level, resource := range map[string]string{"direct": "e4", "shared_env_groups": "e9"} {
				input := ast.MustParseTerm(fmt.Sprintf(`{"subject": {"type": "account", "id": "m4"},
					"action": {"name": "service.p15.Action3"}, "resource": {"type": "environment", "id": %q}}`, resource))
				b.Run(fmt.Sprintf("%s/%s/environments=%d", query, level, environments), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						results, err := prepared.Eval(context.Background(), opa.EvalParsedInput(input.Value))
						if err != nil || len(results) != 1 {
							b.Fatal(err, results)
						}
					}
				})
			}
		}
	}
}
