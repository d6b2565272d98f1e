package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

// TestVectors: every published vector over HTTP, alone and in a batch.
func TestVectors(t *testing.T) {
	t.Parallel()
	vectors, err := policiestest.Vectors()
	require.NoError(t, err)
	require.NotEmpty(t, vectors)
	for _, vector := range vectors {
		t.Run(vector.Name, func(t *testing.T) {
			t.Parallel()
			door := openState(t, newState(t, vector.Document))
			var items []string
			for _, check := range vector.Checks {
				body := evaluation(t, check.Question(), "")
				requireVector(t, check, door.post(t, server.PathEvaluation, body).decision(t))
				items = append(items, body)
			}
			batch := door.post(t, server.PathEvaluations, `{"evaluations":[`+strings.Join(items, ",")+`]}`).decisions(t)
			require.Len(t, batch, len(vector.Checks))
			for i, check := range vector.Checks {
				requireVector(t, check, batch[i])
			}
		})
	}
}

func requireVector(t *testing.T, want policiestest.VectorCheck, got decision) {
	t.Helper()
	require.Equal(t, want.Decision, got.Decision, "%+v", want)
	require.Equal(t, want.Reason, got.Context.Reason, "%+v", want)
	require.Equal(t, want.Level, got.Context.Level, "%+v", want)
	require.True(t, slices.Equal(want.Roles, got.Context.Roles), "%+v: %v", want, got.Context.Roles)
	require.True(t, slices.Equal(want.Policies, got.Context.Policies), "%+v: %v", want, got.Context.Policies)
	require.Equal(t, startRevision, got.Context.Revision)
}

// TestModel: random worlds and questions over HTTP, against the reference model,
// explanations included.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dice := rapiddice.New(rt)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(rt, err)
		instants := world.Instants()
		at := instants[dice.Roll(len(instants))]
		if at.Unix() < 0 {
			at = world.Now // the engine's clock begins with Unix time
		}
		engine := newEngine(rt, newState(rt, world.Documents...), at)
		door := open(t, newAPI(t, engine, server.StateTokens(engine.State)), server.Listener{Auth: server.AuthNone})
		var questions []policiestest.Question
		var items []string
		for range 10 {
			q := world.Question(dice)
			questions, items = append(questions, q), append(items, evaluation(rt, q, ""))
			requireModel(rt, world.Model(), q, door.post(rt, server.PathEvaluation, evaluation(rt, q, "")).decision(rt), at)
			explained := door.post(rt, server.PathEvaluation, evaluation(rt, q, `{"explain":true}`)).decision(rt)
			requireModel(rt, world.Model(), q, explained, at)
			requireExplained(rt, world.Model().Explain(q, at), explained)
		}
		for i, got := range door.post(rt, server.PathEvaluations, `{"evaluations":[`+strings.Join(items, ",")+`]}`).decisions(rt) {
			requireModel(rt, world.Model(), questions[i], got, at)
		}
	})
}

// TestBody: the very bytes of answers, text that needs escapes among them.
func TestBody(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	for _, c := range []struct {
		name, context, want string
		question            policiestest.Question
	}{
		{
			name: "granted", question: ask("mia", "acme.Say", "environment", "e"),
			want: `{"decision":true,"context":{"reason":"granted","level":"shared_env_groups","roles":["Rôle \"R\" <b>"],` +
				`"policies":["acme.say"],"owner":"olga","revision":7,"valid_until":"2997-01-01T00:00:00Z"}}`,
		},
		{
			name: "action not granted, explained", question: ask("mia", "environment.control.StartEnv", "environment", "e"),
			context: `{"explain": true}`,
			want: `{"decision":false,"context":{"reason":"action_not_granted","level":"shared_env_groups","roles":["Rôle \"R\" <b>"],` +
				`"owner":"olga","revision":7,"valid_until":"2997-01-01T00:00:00Z","levels":{"direct":[],"shared_env_groups":` +
				`[{"group":"h","roles":["Rôle \"R\" <b>"],"inherited_from":"g"}],"base":[]},"missing_roles":["Starter"]}}`,
		},
		{
			name: "not shared, explained", question: ask("mia", "environment.control.DeleteEnv", "environment", "f"),
			context: `{"explain": true}`,
			want: `{"decision":false,"context":{"reason":"not_shared","owner":"olga","revision":7,` +
				`"levels":{"direct":[],"shared_env_groups":[],"base":[]},"missing_roles":[]}}`,
		},
		{
			name: "owner", question: ask("olga", "acme.Say", "environment", "e"),
			want: `{"decision":true,"context":{"reason":"owner","owner":"olga","revision":7}}`,
		},
		{
			name: "unknown subject", question: ask("\u0000💥", "acme.Say", "environment", "e"),
			want: `{"decision":false,"context":{"reason":"unknown_subject","revision":7}}`,
		},
		{
			name: "too long to be an id", question: ask("mia", "acme.Say", "environment", strings.Repeat("e", policies.MaxIDLength+1)),
			want: `{"decision":false,"context":{"reason":"unknown_resource","revision":7}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := door.post(t, server.PathEvaluation, evaluation(t, c.question, c.context))
			require.Equal(t, http.StatusOK, got.status)
			require.Equal(t, c.want, string(got.body))
		})
	}
}

func requireModel(t require.TestingT, m policiestest.Model, q policiestest.Question, got decision, at time.Time) {
	want := m.Check(q, at)
	require.Equal(t, want.Decision, got.Decision, "%+v", q)
	require.Equal(t, want.Reason, got.Context.Reason, "%+v", q)
	require.Equal(t, want.Level, got.Context.Level, "%+v", q)
	require.Equal(t, want.Owner, got.Context.Owner, "%+v", q)
	require.Equal(t, want.ValidUntil, got.Context.ValidUntil, "%+v", q)
	require.True(t, slices.Equal(want.Roles, got.Context.Roles), "%+v: %v, not %v", q, got.Context.Roles, want.Roles)
	require.True(t, slices.Equal(want.Policies, got.Context.Policies), "%+v: %v, not %v", q, got.Context.Policies, want.Policies)
	require.Equal(t, startRevision, got.Context.Revision)
}

func requireExplained(t require.TestingT, want *policiestest.Explanation, got decision) {
	if want == nil {
		require.Nil(t, got.Context.Levels)
		require.Nil(t, got.Context.MissingRoles)
		return
	}
	levels := got.Context.Levels
	require.NotNil(t, levels)
	require.True(t, slices.Equal(want.Direct, levels.Direct), "%v, not %v", levels.Direct, want.Direct)
	require.True(t, slices.Equal(want.Base, levels.Base), "%v, not %v", levels.Base, want.Base)
	require.Len(t, levels.SharedEnvGroups, len(want.SharedEnvGroups))
	for i, group := range want.SharedEnvGroups {
		require.Equal(t, group.Group, levels.SharedEnvGroups[i].Group)
		require.Equal(t, group.InheritedFrom, levels.SharedEnvGroups[i].InheritedFrom)
		require.True(t, slices.Equal(group.Roles, levels.SharedEnvGroups[i].Roles))
	}
	if got.Context.Reason == policies.ReasonGranted {
		require.Nil(t, got.Context.MissingRoles)
		return
	}
	require.NotNil(t, got.Context.MissingRoles)
	require.True(t, slices.Equal(want.MissingRoles, *got.Context.MissingRoles), "%v, not %v", *got.Context.MissingRoles, want.MissingRoles)
}
