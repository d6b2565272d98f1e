package ondemand

import (
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// TestSearchIsPassedOn: searches are answered by the admin, at a revision that this
// sidecar has reached too, page by page.
func TestSearchIsPassedOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	which := authz.Search{
		Sought: authz.SoughtResources, Limit: 1,
		Question: authz.Question{SubjectType: "account", Subject: "mia", Action: startEnv, ResourceType: "environment"},
	}
	first, err := f.engine.Search(t.Context(), 0, which)
	require.NoError(t, err)
	require.Equal(t, authz.Found{Revision: firstID, IDs: []string{"e-anna"}, Next: &authz.Place{Revision: firstID, After: "anna/e-anna"}}, first)
	which.From = first.Next
	second, err := f.engine.Search(t.Context(), 0, which)
	require.NoError(t, err)
	require.Equal(t, authz.Found{Revision: firstID, IDs: []string{"e-ben"}}, second)

	// The admin is ahead, and the feed late: the search waits for it.
	which.From = nil
	impatient := f.another(t, func(o *Options) { o.MinRevisionWait = -1 })
	f.admin.mute(true)
	o, err := policies.NewObject(policies.KindAccount, "", "someone", policies.AccountBody{})
	require.NoError(t, err)
	revision := f.admin.change(t, o)
	var late *authz.RevisionError
	_, err = impatient.Search(t.Context(), 0, which)
	require.ErrorAs(t, err, &late, "an answer is never ahead of the checks that come after it")
	_, err = impatient.Search(t.Context(), revision+1, which)
	require.ErrorAs(t, err, &late)
	f.admin.mute(false)
	found, err := f.engine.Search(t.Context(), revision, which)
	require.NoError(t, err)
	require.Equal(t, revision, found.Revision)
	require.GreaterOrEqual(t, f.engine.Revision(), revision)

	which.From = first.Next
	var place *authz.PlaceError
	_, err = f.engine.Search(t.Context(), 0, which)
	require.ErrorAs(t, err, &place)

	f.admin.down.Store(true)
	which.From = nil
	var unavailable *authz.UnavailableError
	_, err = f.engine.Search(t.Context(), 0, which)
	require.ErrorAs(t, err, &unavailable)
}

// TestSearchCarriesTheContext: guardrails at the admin read what came with the search.
func TestSearchCarriesTheContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	revision := f.admin.change(t, object(t, policies.KindPolicyInForce, "", "policy_in_force", guardedPolicy(t).Source()))
	which := authz.Search{
		Sought: authz.SoughtSubjects, Limit: 9,
		Question: authz.Question{SubjectType: "account", Action: startEnv, ResourceType: "environment", ResourceID: "e-anna"},
	}
	for _, c := range []struct {
		request authz.Request
		found   []string
	}{
		{authz.Request{}, []string{}},
		{authz.Request{Context: jsontext.Value(`{"ticket":"OPS-1"}`)}, []string{}},
		{authz.Request{Context: jsontext.Value(`{"ticket":"OPS-1"}`), ResourceProperties: jsontext.Value(`{"even":1}`)}, []string{"anna", "mia"}},
	} {
		which.Question.Request = &c.request
		found, err := f.engine.Search(t.Context(), revision, which)
		require.NoError(t, err)
		require.True(t, found.Guarded)
		require.Equal(t, c.found, append([]string{}, found.IDs...))
		for _, subject := range []string{"anna", "mia"} { // and so say checks
			q := which.Question
			q.Subject = subject
			require.Equal(t, slices.Contains(c.found, subject), f.ask(t, f.engine, q).Allow)
		}
	}
}
