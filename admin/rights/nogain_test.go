package rights_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

var testNow = time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)

// actions are those of the worlds; each has a policy of its own name for some kinds.
var kindsOf = map[policies.ActionName][]policies.ResourceType{
	"acme.Env": {"environment"}, "acme.Group": {"group"}, "acme.Both": {"environment", "group"},
	"acme.All": {"environment", "group", "environments", "groups", "account"},
}

var actions = []policies.ActionName{"acme.All", "acme.Both", "acme.Env", "acme.Group"}

// world is a small random account: few actions, so that much is held in common.
func world(d policiestest.Dice) policies.Document {
	doc := policies.Document{Account: policies.Account{ID: "own"}}
	for _, a := range actions {
		doc.Policies = append(doc.Policies, policies.Policy{ID: policies.PolicyID(a), Resources: kindsOf[a], Actions: []policies.ActionName{a}})
		doc.Roles = append(doc.Roles, policies.Role{ID: policies.RoleID("r-" + a), Name: string(a), Policies: []policies.PolicyID{policies.PolicyID(a)}})
	}
	doc.Roles = append(doc.Roles, policies.Role{ID: "two", Name: "two", Policies: []policies.PolicyID{"acme.Env", "acme.Both"}}, policies.Role{ID: "none", Name: "none"})
	g1 := policies.GroupID("g1")
	doc.Groups = []policies.Group{{ID: "g1"}, {ID: "g2", Parent: &g1}, {ID: "g3"}}
	for _, id := range []policies.EnvironmentID{"e1", "e2"} {
		doc.Environments = append(doc.Environments, policies.Environment{ID: id, Groups: someGroups(d, doc)})
	}
	for _, id := range []policies.AccountID{"writer", "ann", "bob"} {
		m := policies.DocumentMember{Account: policies.DocumentAccount{ID: &id}, Status: policies.StatusActive}
		if id != "writer" {
			m.Status = []policies.Status{policies.StatusActive, policies.StatusPending, policies.StatusLeft}[d.Roll(3)]
		}
		for _, r := range resources(doc) {
			if d.Roll(3) == 0 {
				m.Grants = append(m.Grants, grant(d, doc, r))
			}
		}
		doc.Members = append(doc.Members, m)
	}
	return doc
}

func someGroups(d policiestest.Dice, doc policies.Document) []policies.GroupID {
	groups := []policies.GroupID{}
	for _, g := range doc.Groups {
		if d.Roll(3) == 0 {
			groups = append(groups, g.ID)
		}
	}
	return groups
}

func grant(d policiestest.Dice, doc policies.Document, r policies.Resource) policies.Grant {
	g := policies.Grant{Resource: r, Roles: []policies.RoleID{doc.Roles[d.Roll(len(doc.Roles))].ID}}
	if d.Roll(3) == 0 {
		ends := testNow.Add(time.Duration(d.Roll(4)-1) * time.Hour)
		if d.Roll(4) == 0 {
			ends = time.Date(2990+d.Roll(3), 1, 1, 0, 0, 0, 0, time.UTC) // beyond OPA's clock
		}
		g.ExpiresAt = &ends
	}
	return g
}

func resources(doc policies.Document) []policies.Resource {
	all := []policies.Resource{{Type: "environments", ID: "own"}, {Type: "groups", ID: "own"}, {Type: "account", ID: "own"}}
	for _, g := range doc.Groups {
		all = append(all, policies.Resource{Type: "group", ID: string(g.ID)})
	}
	for _, e := range doc.Environments {
		all = append(all, policies.Resource{Type: "environment", ID: string(e.ID)})
	}
	return all
}

// write changes doc as a write of the API would.
func write(d policiestest.Dice, doc policies.Document) policies.Document {
	doc.Members, doc.Environments, doc.Groups = slices.Clone(doc.Members), slices.Clone(doc.Environments), slices.Clone(doc.Groups)
	switch d.Roll(6) {
	case 0, 1, 2: // a grant of anybody's
		m := &doc.Members[d.Roll(len(doc.Members))]
		r := resources(doc)[d.Roll(len(resources(doc)))]
		m.Grants = slices.DeleteFunc(slices.Clone(m.Grants), func(g policies.Grant) bool { return g.Resource == r })
		if d.Roll(3) > 0 {
			m.Grants = append(m.Grants, grant(d, doc, r))
		}
	case 3:
		doc.Environments[d.Roll(len(doc.Environments))].Groups = someGroups(d, doc)
	case 4:
		g3 := policies.GroupID("g3")
		doc.Groups[d.Roll(2)].Parent = []*policies.GroupID{nil, &g3}[d.Roll(2)]
	case 5: // an invitation
		id := policies.AccountID("new")
		doc.Members = append(doc.Members, policies.DocumentMember{
			Account: policies.DocumentAccount{ID: &id}, Status: policies.StatusPending,
			Grants: []policies.Grant{grant(d, doc, resources(doc)[d.Roll(len(resources(doc)))])},
		})
	}
	return doc
}

// TestNoGain holds the rule against the model.
func TestNoGain(t *testing.T) {
	t.Parallel()
	policy := embeddedPolicy(t)
	verdicts := map[bool]int{}
	for seed := range uint64(400) {
		d := policiestest.SeededDice(seed)
		before := world(d)
		after := write(d, before)
		was := build(t, policy, before)
		objects := differing(t, before, after)
		is, err := was.With(context.Background(), objects)
		require.NoError(t, err, seed)
		err = rights.Write{Before: was, After: is, Objects: objects, Owner: "own", Account: "writer", Now: testNow}.Check(context.Background())
		var forbidden *policies.ForbiddenError
		require.True(t, err == nil || errors.As(err, &forbidden), "%d: %v", seed, err)
		fault := policiestest.Model{}.NoGain(before, after, "writer", testNow, false)
		want := fault == ""
		require.Equal(t, want, err == nil, "seed %d: %s: before %+v, after %+v", seed, fault, before, after)
		if len(objects) > 0 {
			verdicts[want]++
		}
	}
	require.Greater(t, verdicts[true], 20, "enough is allowed to mean something")
	require.Greater(t, verdicts[false], 100)
}

func embeddedPolicy(tb testing.TB) *authz.Policy {
	tb.Helper()
	inForce, err := policiestest.PolicyInForce()
	require.NoError(tb, err)
	made, err := authz.NewPolicy(context.Background(), inForce)
	require.NoError(tb, err)
	return made
}

func objectsOf(tb testing.TB, doc policies.Document) []policies.Object {
	tb.Helper()
	all, err := doc.Objects()
	require.NoError(tb, err)
	return all
}

func build(tb testing.TB, policy *authz.Policy, doc policies.Document) *authz.State {
	tb.Helper()
	b := authz.NewBuilder(authz.Header{Platform: "test", Revision: 1})
	b.Reuse(policy)
	add := func(kind policies.Kind, id string, body any) {
		o, err := policies.NewObject(kind, "", id, body)
		require.NoError(tb, err)
		require.NoError(tb, b.Add(o))
	}
	add(policies.KindPolicyInForce, string(policies.KindPolicyInForce), policy.Source())
	for _, account := range []string{"writer", "ann", "bob", "new"} {
		add(policies.KindAccount, account, policies.AccountBody{})
	}
	for _, o := range objectsOf(tb, doc) {
		require.NoError(tb, b.Add(o))
	}
	s, err := b.Build(context.Background())
	require.NoError(tb, err)
	return s
}

func differing(tb testing.TB, before, after policies.Document) []policies.Object {
	tb.Helper()
	old := map[string]policies.Object{}
	for _, o := range objectsOf(tb, before) {
		old[string(o.Kind)+" "+o.ID] = o
	}
	var all []policies.Object
	for _, o := range objectsOf(tb, after) {
		if have, ok := old[string(o.Kind)+" "+o.ID]; !ok || !bytes.Equal(have.Body, o.Body) {
			all = append(all, o)
		}
		delete(old, string(o.Kind)+" "+o.ID)
	}
	for _, o := range old {
		gone, err := policies.NewObject(o.Kind, o.Owner, o.ID, nil)
		require.NoError(tb, err)
		all = append(all, gone)
	}
	return all
}
