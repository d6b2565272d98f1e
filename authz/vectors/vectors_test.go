package vectors_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/vectors"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/rego"
)

func newRunner(t *testing.T) (*vectors.Runner, policies.CatalogueIndex) {
	t.Helper()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	source, err := policies.NewPolicyInForce(catalogue, rego.Modules())
	require.NoError(t, err)
	policy, err := authz.NewPolicy(context.Background(), source)
	require.NoError(t, err)
	return &vectors.Runner{Policy: policy}, catalogue.Index()
}

// TestPublishedVectors: the platform's own vectors are a file that can be tested.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "policies", "policiestest", "testdata", "access-levels.json"))
	require.NoError(t, err)
	r, index := newRunner(t)
	file, err := vectors.Parse("access-levels.json", data, index)
	require.NoError(t, err)
	for _, w := range file.Worlds {
		require.NoError(t, r.World(t.Context(), &w))
	}
	require.Greater(t, len(r.Results), 50)
	require.Zero(t, r.Failed(), "%+v", r.Results)
}

const world = `
worlds:
  - name: two
    now: 2026-06-01T00:00:00Z
    accounts:
      - account: {id: olga, email: olga@example.com}
        environments: [{id: app, name: App}]
        policies: [{id: own, name: Own, resources: [environment], actions: [acme.Say]}, {id: dead, name: Dead, resources: [environment], actions: [acme.Sing]}]
        roles: [{id: v, name: Viewer, policies: [environment.view]}, {id: s, name: Speaker, policies: [own, environment.stop]}]
        members:
          - account: {id: mia, email: mia@example.com}
            grants:
              - {resource: {type: environment, id: app}, roles: [Viewer], expires_at: 2026-07-01T00:00:00Z}
              - {resource: {type: environments, id: olga}, roles: [Speaker]}
      - account: {id: mia, email: mia@example.com}
    checks:
`

// TestDifferences: each part of an answer that a check names is held against it, and no
// other.
func TestDifferences(t *testing.T) {
	t.Parallel()
	r, index := newRunner(t)
	question := `subject: mia, action: environment.control.GetEnvInfo, resource: environment:app, `
	for text, want := range map[string]string{
		question + `decision: true`: ``,
		question + `decision: true, reason: granted, level: direct, roles: [Viewer], policies: [environment.view], owner: olga`: ``,
		question + `decision: false`:                        `decision: expected deny, found allow; reason: expected any, found granted`,
		question + `decision: true, reason: owner`:          `reason: expected owner, found granted`,
		question + `decision: true, level: base`:            `level: expected base, found direct`,
		question + `decision: true, level: ""`:              `level: expected none, found direct`,
		question + `decision: true, roles: [Speaker, Boss]`: `roles: expected Boss, Speaker, found Viewer`,
		question + `decision: true, policies: []`:           `policies: expected none, found environment.view`,
		question + `decision: true, owner: mia`:             `owner: expected mia, found olga`,
		`subject: mia, action: acme.Say, resource: {type: environment, id: app}, decision: false, reason: action_not_granted, level: direct, policies: []`: ``,
		`subject: mia, action: acme.Say, resource: {type: environments, id: olga}, decision: false, reason: action_not_granted`:                            ``,
		`subject: nobody, action: acme.Say, resource: account:olga, decision: false, reason: unknown_subject, level: "", owner: ""`:                        ``,
	} {
		file, err := vectors.Parse("f", []byte(world+"      - {"+text+"}"), index)
		require.NoError(t, err, text)
		r.Results = nil
		require.NoError(t, r.World(t.Context(), &file.Worlds[0]), text)
		require.Len(t, r.Results, 1)
		require.Equal(t, 17, r.Results[0].Check.Line)
		got := ""
		for _, d := range r.Results[0].Differences {
			if got != "" {
				got += "; "
			}
			got += d.String()
		}
		require.Equal(t, want, got, text)
	}
}

// TestWorldTime: grants end by the world's time.
func TestWorldTime(t *testing.T) {
	t.Parallel()
	r, index := newRunner(t)
	for now, level := range map[string]string{"2026-06-30T23:59:59Z": "direct", "2026-07-01T00:00:00Z": "base"} {
		text := world + `      - {subject: mia, action: environment.control.StopEnv, resource: environment:app, decision: ` +
			map[string]string{"direct": "false", "base": "true"}[level] + `, level: ` + level + `}`
		file, err := vectors.Parse("f", []byte(replaced(t, text, "2026-06-01T00:00:00Z", now)), index)
		require.NoError(t, err)
		require.NoError(t, r.World(t.Context(), &file.Worlds[0]))
	}
	require.Len(t, r.Results, 2)
	require.Zero(t, r.Failed(), "%+v", r.Results)
}

// TestCoverage: a role counts where it stands on the winning level, a policy where it
// grants; what is there is told in any order.
func TestCoverage(t *testing.T) {
	t.Parallel()
	r, index := newRunner(t)
	share := func(s vectors.Share) []any { return []any{s.Exercised, s.Of, s.Never} }
	run := func(checks string) {
		file, err := vectors.Parse("f", []byte(world+checks), index)
		require.NoError(t, err)
		require.NoError(t, r.World(t.Context(), &file.Worlds[0]))
	}
	run(`      - {subject: mia, action: acme.Say, resource: environment:app, decision: false}`)
	require.Equal(t, []any{1, 2, vectors.Parts{{Owner: "olga", Name: "Speaker"}}}, share(r.Coverage.Roles()))
	require.Equal(t, []any{0, 4, vectors.Parts{{Name: "environment.stop"}, {Name: "environment.view"}, {Owner: "olga", Name: "dead"}, {Owner: "olga", Name: "own"}}},
		share(r.Coverage.Policies()))
	run(`      - {subject: mia, action: environment.control.GetEnvInfo, resource: environment:app, decision: true}`)
	require.Equal(t, 1, r.Coverage.Policies().Exercised)
	require.InDelta(t, 50, r.Coverage.Roles().Percent(), 0)
	require.Equal(t, []policies.AccountID{"olga"}, r.Coverage.Owners())
	require.InDelta(t, 100, vectors.Share{}.Percent(), 0)
}

// TestParseSaysAllThatIsWrong, each with its line.
func TestParseSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, index := newRunner(t)
	for text, want := range map[string]string{
		`{}`:                               `f:1: has neither worlds nor checks`,
		"checks:\n - {x: 1}":               `f:2: unknown field "x"`,
		"checks:\n - {decision: perhaps}":  `f:2: a string stands where a bool is wanted`,
		"checks:\n\t- a":                   `f:2: `,
		"checks:\n - {subject: a\n":        `f:2: `,
		"checks: []\nchecks: []":           `f:2: `,
		"worlds:\n  - why: x":              `f:2: the world "worlds[0]" has no account and no accounts` + "\n" + `f:2: the world "worlds[0]" has no checks`,
		"checks:\n\n  - {action: a.B}":     "f:3: a check needs a subject and an action\nf:3: a check needs the decision that is expected, true or false\nf:3: a check needs a resource, TYPE:ID or {type: TYPE, id: ID}",
		world + "      - {decision: true}": `a check needs a subject`,
		replaced(t, world, "2026-06-01T00:00:00Z", "yesterday") + "      - {subject: a, action: b, resource: 'c:d', decision: true}":      `f:4: now must be a time like 2026-11-25T12:00:00Z, not "yesterday"`,
		replaced(t, world, "roles: [Viewer]", "roles: [Nobody]") + "      - {subject: a, action: b, resource: {type: c}, decision: true}": `f:6: the account document: members[0].grants[0].roles[0] `,
	} {
		_, err := vectors.Parse("f", []byte(text), index)
		require.ErrorContains(t, err, want, text)
	}
}

// TestWorldThatDoesNotFit: the documents of a world contradict each other.
func TestWorldThatDoesNotFit(t *testing.T) {
	t.Parallel()
	r, index := newRunner(t)
	text := replaced(t, world, "- account: {id: mia, email: mia@example.com}\n    checks", "- account: {id: olga, email: o@example.com}\n    checks")
	file, err := vectors.Parse("f", []byte(text+"      - {subject: a, action: b, resource: 'c:d', decision: true}"), index)
	require.NoError(t, err)
	require.ErrorContains(t, r.World(t.Context(), &file.Worlds[0]), `the world "two": put the documents together: `)
}

// replaced is text with old in it replaced by another.
func replaced(t *testing.T, text, old, by string) string {
	t.Helper()
	require.Contains(t, text, old)
	return strings.Replace(text, old, by, 1)
}
