package policiestest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestModelAnswersEveryVector(t *testing.T) {
	t.Parallel()
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	checks := 0
	for _, v := range vectors {
		model := policiestest.Model{Catalogue: catalogue, Documents: []policies.Document{v.Document}}
		for _, c := range v.Checks {
			got := model.Check(c.Question(), now)
			want := policiestest.Answer{
				Decision: c.Decision, Reason: c.Reason, Level: c.Level, Roles: c.Roles, Policies: c.Policies,
				// The vectors leave these out.
				Owner: got.Owner, ValidUntil: got.ValidUntil,
			}
			require.Empty(t, cmp.Diff(want, got, cmpopts.EquateEmpty()), "%s: %+v", v.Name, c)
			checks++
		}
	}
	require.Equal(t, 54, checks, "the number of vectors changed: look at the new ones")
}

// TestVectorsAreTheAgreedOnes: the copies here are those of the design.
func TestVectorsAreTheAgreedOnes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"access-levels.json", "delegation.json"} {
		agreed, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "vectors", name))
		if os.IsNotExist(err) {
			continue // a checkout by itself
		}
		require.NoError(t, err)
		ours, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		require.Equal(t, string(agreed), string(ours), name)
	}
}

func TestDelegationVectorsDecode(t *testing.T) {
	t.Parallel()
	cases, err := policiestest.Delegations()
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	for _, c := range cases {
		_, err := policies.DecodeDocument(c.Account, policies.WithCatalogue(catalogue.Index()))
		require.NoError(t, err, c.Name)
	}
}

// TestWorldsAreValid: what the generator makes is a platform, and each form in
// which it is imported decodes to the same documents.
func TestWorldsAreValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dice := rapiddice.New(rt)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(rt, err)
		imports, err := world.Imports(dice)
		require.NoError(rt, err)
		for i, data := range imports {
			got, err := policies.DecodeDocument(data, policies.WithCatalogue(world.Catalogue.Index()))
			require.NoError(rt, err, "%s", data)
			require.Empty(rt, cmp.Diff(world.Documents[i], got))
			require.NoError(rt, policies.ValidateDocument(world.Documents[i], world.Catalogue.Index()))
		}
	})
}

// TestWorldsReachEverything: random worlds and questions have every reason, level
// and kind of resource, so that a property test over them means something.
func TestWorldsReachEverything(t *testing.T) {
	t.Parallel()
	seen := map[any]int{}
	for seed := range uint64(400) {
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(t, err)
		for range 50 {
			q := world.Question(dice)
			answer := world.Model().Check(q, world.Now)
			seen[answer.Reason]++
			seen[answer.Level]++
			if answer.Decision {
				seen[policies.ResourceType(q.ResourceType)]++
			}
			if answer.ValidUntil != "" {
				seen["valid_until"]++
			}
		}
	}
	for _, want := range []any{
		policies.ReasonOwner, policies.ReasonGranted, policies.ReasonUnknownSubject, policies.ReasonUnknownResource,
		policies.ReasonUnknownAction, policies.ReasonNoCollaboration, policies.ReasonCollaborationPending,
		policies.ReasonCollaborationSuspended, policies.ReasonCollaborationLeft, policies.ReasonCollaborationRejected,
		policies.ReasonCollaborationExpired, policies.ReasonNotShared, policies.ReasonActionNotGranted,
		policies.LevelDirect, policies.LevelSharedEnvGroups, policies.LevelBase,
		policies.TypeEnvironment, policies.TypeGroup, policies.TypeEnvironments, policies.TypeGroups, policies.TypeAccount,
		"valid_until",
	} {
		require.Greater(t, seen[want], 20, "%v", want)
	}
	t.Log(seen)
}

// TestSeededDice: one seed, one world.
func TestSeededDice(t *testing.T) {
	t.Parallel()
	first, err := policiestest.NewWorld(policiestest.SeededDice(7), now)
	require.NoError(t, err)
	again, err := policiestest.NewWorld(policiestest.SeededDice(7), now)
	require.NoError(t, err)
	require.Equal(t, first, again)
}
