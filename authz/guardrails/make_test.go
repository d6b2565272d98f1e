package guardrails_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

const about = `# METADATA
# title: Ümlaut before what follows
# custom:
#   actions: [b.c, a.b]
`

// TestMake: each form of a rule gets its condition, and all else stays.
func TestMake(t *testing.T) {
	t.Parallel()
	const condition = `input.action.name in {"a.b", "b.c"}`
	for name, rule := range map[string][2]string{
		"without a body":        {`deny contains "no" # why`, `deny contains "no" if ` + condition + ` # why`},
		"one condition":         {`deny contains "no" if not input.context.ticket`, "deny contains \"no\" if {\n\t" + condition + "\n\tnot input.context.ticket\n}"},
		"one that ends in {}":   {`deny contains "no" if input.x == {1}`, "deny contains \"no\" if {\n\t" + condition + "\n\tinput.x == {1}\n}"},
		"one that begins so":    {`deny contains "no" if {"a"} == input.x`, "deny contains \"no\" if {\n\t" + condition + "\n\t{\"a\"} == input.x\n}"},
		"assigns":               {`deny contains reason if reason := input.context.why`, "deny contains reason if {\n\t" + condition + "\n\treason := input.context.why\n}"},
		"several":               {"deny contains reason if {\n\t# {why}\n\tsome reason in input.x # {\n\treason != \"}\"\n}", "deny contains reason if {\n\t# {why}\n\t" + condition + "\n\tsome reason in input.x # {\n\treason != \"}\"\n}"},
		"on one line":           {`deny contains $"{reason}!" if { reason := "x"; every _, v in [1] { v > 0 } }`, "deny contains $\"{reason}!\" if { " + condition + "\n\treason := \"x\"; every _, v in [1] { v > 0 } }"},
		"that observes":         {`observe contains "no" if [_, _] = input.x`, "observe contains \"no\" if {\n\t" + condition + "\n\t[_, _] = input.x\n}"},
		"that has one, another": {`deny contains "no" if input.action.name in {"z"}`, "deny contains \"no\" if {\n\t" + condition + "\n\tinput.action.name in {\"z\"}\n}"},
	} {
		source := "# Ümlaut\npackage usher.guardrails\n\n" + about + rule[0] + "\n\n_helper if input.y\n"
		made, err := guardrails.Make(map[string]string{"x.rego": source, "x_test.rego": "not even Rego"})
		require.NoError(t, err, name)
		want := strings.Replace(source, rule[0], rule[1], 1)
		require.Equal(t, map[string]string{"usher/guardrails/x.rego": want}, made, name)
		again, err := guardrails.Make(map[string]string{"x.rego": want})
		require.NoError(t, err, name)
		require.Equal(t, made, again, "%s: made again", name)
	}
}

// TestMakeManyFiles: files, packages below and rules for every action.
func TestMakeManyFiles(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"all/always.rego": "package usher.guardrails\n\nimport data.usher.authz.effective\nimport data.usher.guardrails.hours\n\n" +
			"# METADATA\n# custom:\n#   actions: [\"*\"]\ndeny contains \"closed\" if {\n\thours.closed\n\teffective.level == \"base\"\n}\n",
		"hours.rego": "package usher.guardrails.hours\n\nclosed if time.clock(time.now_ns())[0] >= 18\n",
	}
	made, err := guardrails.Make(sources)
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"usher/guardrails/all/always.rego": sources["all/always.rego"],
		"usher/guardrails/hours.rego":      sources["hours.rego"],
	}, made)
	none, err := guardrails.Make(nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

// TestMakeRefuses: what is wrong is named with its file and line, and what to do.
func TestMakeRefuses(t *testing.T) {
	t.Parallel()
	const head = "package usher.guardrails\n\n"
	const every = "# METADATA\n# custom:\n#   actions: [\"*\"]\n"
	for name, source := range map[string][2]string{
		"syntax":                       {head + "deny contains", "x.rego:3 rego_parse_error"},
		"another package":              {"package usher.authz\n\nallow := true", "x.rego:1 is of package usher.authz"},
		"a package as a rule":          {"package usher.guardrails.deny\n\nx := true", "x.rego:1 is of a package that is called"},
		"a rule below":                 {"package usher.guardrails.x\n\n" + every + "deny contains \"x\"", "x.rego:6 deny would be heard of nobody"},
		"no annotation":                {head + "deny contains \"x\"", "x.rego:3 deny does not say for which actions"},
		"a second body":                {head + every + "deny contains \"x\" if { input.x } { input.y }", "x.rego:6 deny does not say for which actions"},
		"no actions":                   {head + "# METADATA\n# custom:\n#   actions: []\ndeny contains \"x\"", "x.rego:6 deny does not say for which actions"},
		"a pattern":                    {head + "# METADATA\n# custom:\n#   actions: [env.*]\ndeny contains \"x\"", "x.rego:6 deny speaks for env.*"},
		"all and one":                  {head + "# METADATA\n# custom:\n#   actions: [a.b, \"*\"]\ndeny contains \"x\"", "\"*\" stands alone"},
		"an action that is a number":   {head + "# METADATA\n# custom:\n#   actions: [7]\ndeny contains \"x\"", "x.rego:6 deny speaks for 7"},
		"a complete rule":              {head + every + "deny := \"x\"", "x.rego:6 deny is not of the form"},
		"a default":                    {head + every + "default deny := \"x\"", "x.rego:6 deny is not of the form"},
		"a function":                   {head + every + "deny(x) := x", "x.rego:6 deny is not of the form"},
		"an object":                    {head + every + "observe[\"x\"] := true", "is not of the form"},
		"a set below":                  {head + every + "deny.x contains \"y\"", "deny.x is not of the form"},
		"a reason that is a number":    {head + every + "deny contains 7", "x.rego:6 deny gives 7: a reason is a text"},
		"a reason that is a set":       {head + every + "deny contains {\"x\"}", "a reason is a text"},
		"a builtin that reaches out":   {head + every + "deny contains \"x\" if http.send({}).status_code == 200", "x.rego:6 http.send reaches out of the process"},
		"randomness":                   {head + "x := rand.intn(\"x\", 7)", "x.rego:3 rand.intn reaches out"},
		"an unsafe variable":           {head + every + "deny contains reason if input.x", "x.rego:6 rego_unsafe_var_error"},
		"all of the platform":          {head + every + "deny contains \"x\" if data.usher.accounts[_].roles", "x.rego:6 reads data.usher.accounts"},
		"all data":                     {head + every + "deny contains \"x\" if walk(data, [_, 7])", "x.rego:6 rego_recursion_error"},
		"what is inside":               {head + "import data.usher.authz\n\n" + every + "deny contains \"x\" if not authz.allow", "x.rego:8 reads data.usher.authz.allow"},
		"what it is asked about":       {head + every + "deny contains \"x\" if data.usher.authz[\"decision\"]", "reads data.usher.authz.decision"},
		"what is made inside, by with": {head + every + "deny contains \"x\" if input.x with data.usher.authz._reason as \"x\"", "reads data.usher.authz._reason"},
	} {
		_, err := guardrails.Make(map[string]string{"x.rego": source[0]})
		_, ok := errors.AsType[*policies.InvalidError](err)
		require.True(t, ok, "%s: %v", name, err)
		require.ErrorContains(t, err, source[1], name)
	}
	for name, sources := range map[string]map[string]string{
		"up":       {"../x.rego": head},
		"absolute": {"/x.rego": head},
		"no rego":  {"x.txt": head},
		"hidden":   {"a/.x.rego": head},
	} {
		_, err := guardrails.Make(sources)
		require.ErrorContains(t, err, "is no name for a file", name)
	}
	_, err := guardrails.Make(map[string]string{"x.rego": strings.Repeat("#", policies.MaxGuardrailsBytes+1)})
	_, ok := errors.AsType[*policies.TooLargeError](err)
	require.True(t, ok)
}

// TestTest: the tests run over the whole policy, and each that fails is named.
func TestTest(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"tickets.rego": "package usher.guardrails\n\n# METADATA\n# custom:\n#   actions: [environment.control.DeleteEnv]\n" +
			"deny contains \"deletes need a ticket\" if {\n\tnot input.context.ticket\n\tdata.usher.authz.effective.level != \"base\"\n}\n",
	}
	inForce := withGuardrails(t, sources)
	const passes = `package usher.guardrails_test

import data.usher.guardrails

test_denies if {
	guardrails.deny == {"deletes need a ticket"} with input as {"action": {"name": "environment.control.DeleteEnv"}}
		with data.usher.authz.effective as {"level": "direct"}
}

test_other_actions if {
	guardrails.deny == set() with input as {"action": {"name": "environment.control.StartEnv"}}
}
`
	results, err := guardrails.Test(t.Context(), inForce, map[string]string{"tickets_test.rego": passes, "tickets.rego": "left out"})
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Equal(t, "usher.guardrails_test.test_denies", results[0].Name)
	require.Equal(t, "tickets_test.rego", results[0].File)
	require.True(t, results[0].Passed)

	const fails = "package usher.guardrails_test\n\nimport data.usher.guardrails\n\ntest_never if {\n\tguardrails.deny == {\"x\"}\n}\n\n" +
		"test_error if time.parse_rfc3339_ns(\"x\") > 0\n\ntodo_test_later if false\n"
	results, err = guardrails.Test(t.Context(), inForce, map[string]string{"a_test.rego": passes, "b_test.rego": fails})
	require.ErrorContains(t, err, "b_test.rego:5 usher.guardrails_test.test_never failed: not so")
	require.ErrorContains(t, err, "b_test.rego:9 usher.guardrails_test.test_error failed: ")
	require.Len(t, results, 5)
	require.True(t, results[4].Skipped)

	for name, broken := range map[string]string{
		"syntax": "package x\n\ntest_x if", "a builtin": "package x\n\ntest_x if http.send({})", "a rule that is there": "package usher.guardrails\n\ndeny := 7",
	} {
		_, err = guardrails.Test(t.Context(), inForce, map[string]string{"c_test.rego": broken})
		require.ErrorContains(t, err, "c_test.rego:", name)
	}
}

// FuzzMake: whatever is written, Make neither panics nor makes what it would not make
// again, and what it makes speaks for what its annotations say.
func FuzzMake(f *testing.F) {
	f.Add("package usher.guardrails\n\n" + about + "deny contains \"x\" if input.context.x\n")
	f.Add("package usher.guardrails\n\n" + about + "observe contains r if { r := $\"{input.x}\" } # x\n" + about + "deny contains \"y\"")
	f.Add("package usher.guardrails\r\n\r\n" + strings.ReplaceAll(about, "\n", "\r\n") + "deny contains x if x := `{\r\n`\r\n")
	f.Fuzz(func(t *testing.T, source string) {
		made, err := guardrails.Make(map[string]string{"x.rego": source})
		if err != nil {
			return
		}
		again, err := guardrails.Make(map[string]string{"x.rego": made["usher/guardrails/x.rego"]})
		require.NoError(t, err)
		require.Equal(t, made, again)
	})
}

func withGuardrails(t *testing.T, sources map[string]string) policies.PolicyInForce {
	t.Helper()
	made, err := guardrails.Make(sources)
	require.NoError(t, err)
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	inForce, err = inForce.WithGuardrails(made)
	require.NoError(t, err)
	require.NoError(t, inForce.Verify())
	require.Equal(t, made, inForce.Guardrails())
	_, err = authz.NewPolicy(t.Context(), inForce)
	require.NoError(t, err)
	return inForce
}
