package authz

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// TestWhatSurvives is the table of doc.go: what a change leaves in the cache, and
// what starts anew. (That nothing is left that should not be is what
// TestCacheNeverDiffers holds; this holds that no more goes than the table says.)
func TestWhatSurvives(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	other := newTestPolicy(t, withoutSome(p.Source().Catalogue))
	all := []string{"mia app", "mia db", "max app", "max db", "owner app", "robin app", "max lab"}
	ofOwner := []string{"mia app", "mia db", "max app", "max db", "owner app", "robin app"}
	mia := string(memberID("owner", "mia"))
	put := func(kind policies.Kind, owner policies.AccountID, id string, body any) []policies.Object {
		return []policies.Object{object(t, kind, owner, id, body)}
	}
	for name, tt := range map[string]struct {
		change []policies.Object
		anew   []string
	}{
		"nothing":                    {nil, nil},
		"a token":                    {put(policies.KindToken, "", "t", policies.TokenBody{Hash: "h"}), nil},
		"another account":            {put(policies.KindAccount, "", "new", policies.AccountBody{}), nil},
		"a member's grant":           {put(policies.KindGrant, "owner", mia+"/environment/app", policies.GrantBody{Roles: []policies.RoleID{"starter"}}), []string{"mia app", "mia db"}},
		"a member's grant that went": {put(policies.KindGrant, "owner", mia+"/environment/app", nil), []string{"mia app", "mia db"}},
		"a member's status":          {put(policies.KindMember, "owner", mia, policies.MemberBody{Account: new(policies.AccountID("mia")), Status: "left"}), []string{"mia app", "mia db"}},
		"a new member":               {put(policies.KindMember, "owner", "m", policies.MemberBody{Account: new(policies.AccountID("robin")), Status: "active"}), []string{"robin app"}},
		"a member's account":         {put(policies.KindMember, "owner", mia, policies.MemberBody{Account: new(policies.AccountID("robin")), Status: "active"}), ofOwner},
		"a member that went":         {put(policies.KindMember, "owner", mia, nil), ofOwner},
		"an environment":             {put(policies.KindEnvironment, "owner", "app", policies.EnvironmentBody{}), []string{"mia app", "max app", "owner app", "robin app"}},
		"a new environment":          {put(policies.KindEnvironment, "owner", "new", policies.EnvironmentBody{}), nil},
		"an environment that went":   {put(policies.KindEnvironment, "owner", "db", nil), []string{"mia db", "max db"}},
		"a group":                    {put(policies.KindGroup, "owner", "squad", policies.GroupBody{}), ofOwner},
		"a group that went":          {put(policies.KindGroup, "owner", "squad", nil), ofOwner},
		"a role":                     {put(policies.KindRole, "owner", "viewer", policies.RoleBody{Name: "V"}), ofOwner},
		"a role that went":           {put(policies.KindRole, "owner", "viewer", nil), ofOwner},
		"a custom policy":            {put(policies.KindPolicy, "owner", "own", policies.PolicyBody{}), ofOwner},
		"a custom policy that went":  {put(policies.KindPolicy, "owner", "own-1", nil), ofOwner},
		"the owner's account":        {put(policies.KindAccount, "", "owner", policies.AccountBody{}), ofOwner},
		"a subject that went":        {put(policies.KindAccount, "", "robin", nil), []string{"robin app"}},
		"an owner that went":         {put(policies.KindAccount, "", "lab-owner", nil), []string{"max lab"}},
		"the policy in force":        {put(policies.KindPolicyInForce, "", "policy_in_force", other.Source()), all},
		"the same policy in force":   {put(policies.KindPolicyInForce, "", "policy_in_force", p.Source()), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestEngine(t, Options{})
			objects := append(company(t, p, nil), objectsOf(t, p, []policies.Document{
				{Account: policies.Account{ID: "lab-owner"}, Environments: []policies.Environment{{ID: "lab"}}},
				{Account: policies.Account{ID: "robin"}},
			})[1:]...)
			objects = append(objects, put(policies.KindPolicy, "owner", "own-1", policies.PolicyBody{Actions: []policies.ActionName{"x"}})...)
			require.NoError(t, e.Reset(buildState(t, p, testHeader(1), objects)))
			for _, pair := range all {
				check(t, e, pairQuestion(pair))
			}
			require.NoError(t, e.Apply(context.Background(), changeAfter(t, e.State(), tt.change...)))
			var anew []string
			for _, pair := range all {
				if !cached(e, pairQuestion(pair)) {
					anew = append(anew, pair)
				}
			}
			require.Equal(t, tt.anew, anew)
		})
	}
	t.Run("another epoch", func(t *testing.T) {
		t.Parallel()
		e := companyEngine(t, Options{}, nil)
		check(t, e, mayOn("mia", actionView, "app"))
		require.NoError(t, e.Apply(context.Background(), changeAt(t, e.State(), policies.NewRevision(1, 0))))
		require.False(t, cached(e, mayOn("mia", actionView, "app")))
	})
}

func pairQuestion(pair string) Question {
	at := slices.Index([]byte(pair), ' ')
	return mayOn(pair[:at], actionView, pair[at+1:])
}

func cached(e *Engine, q Question) bool {
	k, _ := keyOf(&q)
	_, ok := e.cache.find(e.current.Load(), &k, e.now())
	return ok
}
