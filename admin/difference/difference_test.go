package difference_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

var testNow = time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)

func embeddedPolicy(tb testing.TB) *authz.Policy {
	tb.Helper()
	inForce, err := policiestest.PolicyInForce()
	require.NoError(tb, err)
	made, err := authz.NewPolicy(context.Background(), inForce)
	require.NoError(tb, err)
	return made
}

// objects are those of a document, and of the accounts of its members.
func objects(tb testing.TB, doc policies.Document) []policies.Object {
	tb.Helper()
	all, err := doc.Objects()
	require.NoError(tb, err)
	for _, m := range doc.Members {
		if m.Account.ID != nil {
			o, err := policies.NewObject(policies.KindAccount, "", string(*m.Account.ID), policies.AccountBody{})
			require.NoError(tb, err)
			all = append(all, o)
		}
	}
	return all
}

func build(tb testing.TB, policy *authz.Policy, doc policies.Document) *authz.State {
	tb.Helper()
	b := authz.NewBuilder(authz.Header{Platform: "test", Revision: 1})
	b.Reuse(policy)
	inForce, err := policies.NewObject(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), policy.Source())
	require.NoError(tb, err)
	for _, o := range append([]policies.Object{inForce}, objects(tb, doc)...) {
		require.NoError(tb, b.Add(o))
	}
	s, err := b.Build(context.Background())
	require.NoError(tb, err)
	return s
}

// differing are the objects that make after of before.
func differing(tb testing.TB, before, after policies.Document) []policies.Object {
	tb.Helper()
	type key struct {
		kind policies.Kind
		id   string
	}
	old := map[key]policies.Object{}
	for _, o := range objects(tb, before) {
		old[key{o.Kind, o.ID}] = o
	}
	var all []policies.Object
	for _, o := range objects(tb, after) {
		k := key{o.Kind, o.ID}
		if have, ok := old[k]; !ok || !bytes.Equal(have.Body, o.Body) {
			all = append(all, o)
		}
		delete(old, k)
	}
	for _, o := range old {
		gone, err := policies.NewObject(o.Kind, o.Owner, o.ID, nil)
		require.NoError(tb, err)
		all = append(all, gone)
	}
	return all
}

// one is a difference without what the test knows.
type one struct {
	Member       string
	Resource     policies.Resource
	At           time.Time
	Gained, Lost difference.Actions
}

func found(tb testing.TB, c difference.Change, o difference.Options) []one {
	tb.Helper()
	var all []one
	require.NoError(tb, c.Each(context.Background(), o, func(d difference.Difference) error {
		require.NotEmpty(tb, len(d.Gained)+len(d.Lost))
		all = append(all, one{string(d.Member), d.Resource, d.At, d.Gained, d.Lost})
		return nil
	}))
	return all
}

// naive asks Rego for every member about every resource at every instant, before and
// after. Everybody is active, and has an account.
func naive(tb testing.TB, policy *authz.Policy, before, after policies.Document, instants []time.Time) []one {
	tb.Helper()
	ask := func(s *authz.State, doc policies.Document, i int, r policies.Resource, at time.Time) difference.Actions {
		if i >= len(doc.Members) {
			return nil
		}
		found, err := policy.Effective(context.Background(), s, at, *doc.Members[i].Account.ID, r)
		require.NoError(tb, err)
		var actions difference.Actions
		for _, p := range found.Policies {
			actions = append(actions, p.Actions...)
		}
		slices.Sort(actions)
		return slices.Compact(actions)
	}
	minus := func(a, b difference.Actions) (rest difference.Actions) {
		for _, x := range a {
			if !slices.Contains(b, x) {
				rest = append(rest, x)
			}
		}
		return rest
	}
	was, is := build(tb, policy, before), build(tb, policy, after)
	resources := append(resourcesOf(before), resourcesOf(after)...)
	slices.SortFunc(resources, policies.CompareResources)
	resources = slices.Compact(resources)
	var all []one
	for i := range max(len(before.Members), len(after.Members)) {
		for _, r := range resources {
			for _, at := range instants {
				old, now := ask(was, before, i, r, at), ask(is, after, i, r, at)
				gained, lost := minus(now, old), minus(old, now)
				if len(gained)+len(lost) > 0 {
					all = append(all, one{memberID(tb, after, before, i), r, at, gained, lost})
				}
			}
		}
	}
	return all
}

// memberID is the id that the member at a place of the documents has.
func memberID(tb testing.TB, after, before policies.Document, i int) string {
	tb.Helper()
	doc := after
	if i >= len(doc.Members) {
		doc = before
	}
	n := 0
	for _, o := range objects(tb, doc) {
		if o.Kind == policies.KindMember {
			if n == i {
				return o.ID
			}
			n++
		}
	}
	return ""
}

func resourcesOf(doc policies.Document) []policies.Resource {
	id := string(doc.Account.ID)
	all := []policies.Resource{{Type: policies.TypeEnvironments, ID: id}, {Type: policies.TypeGroups, ID: id}, {Type: policies.TypeAccount, ID: id}}
	for _, g := range doc.Groups {
		all = append(all, policies.Resource{Type: policies.TypeGroup, ID: string(g.ID)})
	}
	for _, e := range doc.Environments {
		all = append(all, policies.Resource{Type: policies.TypeEnvironment, ID: string(e.ID)})
	}
	return all
}

// allActive is doc with everybody active and somebody, as Options.As Active sees it.
func allActive(doc policies.Document) policies.Document {
	doc.Members = slices.Clone(doc.Members)
	for i := range doc.Members {
		doc.Members[i].Status = policies.StatusActive
		if doc.Members[i].Account.ID == nil {
			id := policies.AccountID(fmt.Sprintf("nobody-%d", i))
			doc.Members[i].Account.ID = &id
		}
	}
	return doc
}

// asTheyAre is doc with those who hold nothing without their grants.
func asTheyAre(doc policies.Document) policies.Document {
	active := allActive(doc)
	for i, m := range doc.Members {
		if m.Status != policies.StatusActive {
			active.Members[i].Grants = nil
		}
	}
	return active
}

// TestEach compares random changes of random worlds with asking for everything.
func TestEach(t *testing.T) {
	t.Parallel()
	policy := embeddedPolicy(t)
	for seed := range uint64(25) {
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, testNow)
		require.NoError(t, err)
		before := slices.MaxFunc(world.Documents, func(a, b policies.Document) int { return cmp.Compare(len(a.Members), len(b.Members)) })
		after := before
		for range 1 + dice.Roll(3) {
			after = mutate(dice, after)
		}
		was := build(t, policy, before)
		c := difference.Change{Before: was, Objects: differing(t, before, after)}
		c.After, err = was.With(context.Background(), c.Objects)
		require.NoError(t, err)

		sorted := func(list []one) []one {
			slices.SortFunc(list, func(a, b one) int {
				return cmp.Or(cmp.Compare(a.Member, b.Member), policies.CompareResources(a.Resource, b.Resource), a.At.Compare(b.At))
			})
			return list
		}
		got := found(t, c, difference.Options{Now: testNow})
		want := naive(t, policy, asTheyAre(before), asTheyAre(after), []time.Time{testNow})
		if diff := gocmp.Diff(sorted(want), sorted(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: now, as they are: %s", seed, diff)
		}
		got = found(t, c, difference.Options{Now: testNow, Later: true, As: difference.Active})
		got = slices.DeleteFunc(got, func(d one) bool { return d.At.Year() > 2261 }) // OPA's clock does not get there
		var instants []time.Time
		for _, d := range got {
			instants = append(instants, d.At)
		}
		for _, at := range world.Instants() {
			if at.After(testNow) {
				instants = append(instants, at)
			}
		}
		slices.SortFunc(instants, time.Time.Compare)
		instants = slices.CompactFunc(append([]time.Time{testNow}, instants...), time.Time.Equal)
		want = naive(t, policy, allActive(before), allActive(after), instants)
		if diff := gocmp.Diff(spans(want), spans(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: later, as if active: %s", seed, diff)
		}
	}
}

// spans leaves out what is the same as at the instant before, so that it does not
// matter at how many instants was asked.
func spans(list []one) []string {
	var all []string
	for _, d := range list {
		all = append(all, fmt.Sprint(d.Member, d.Resource, d.Gained, d.Lost))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func pick[T any](d policiestest.Dice, list []T) *T {
	if len(list) == 0 {
		return nil
	}
	return &list[d.Roll(len(list))]
}

// mutate is doc with one change, as the store would make it.
func mutate(d policiestest.Dice, doc policies.Document) policies.Document {
	doc.Members, doc.Groups, doc.Environments = slices.Clone(doc.Members), slices.Clone(doc.Groups), slices.Clone(doc.Environments)
	doc.Roles, doc.Policies = slices.Clone(doc.Roles), slices.Clone(doc.Policies)
	role, member := pick(d, doc.Roles), pick(d, doc.Members)
	switch d.Roll(9) {
	case 0, 1:
		if member != nil {
			r := *pick(d, resourcesOf(doc))
			member.Grants = slices.DeleteFunc(slices.Clone(member.Grants), func(g policies.Grant) bool { return g.Resource == r })
			if d.Roll(3) > 0 {
				g := policies.Grant{Resource: r, Roles: []policies.RoleID{role.ID}}
				if d.Roll(2) == 0 {
					ends := testNow.Add(time.Duration(d.Roll(100)-20) * time.Hour)
					g.ExpiresAt = &ends
				}
				member.Grants = append(member.Grants, g)
			}
		}
	case 2:
		if member != nil {
			member.Status = policies.Statuses[d.Roll(len(policies.Statuses)-1)]
		}
	case 3:
		role.Policies = slices.Clone(role.Policies)
		if len(role.Policies) > 0 {
			role.Policies = role.Policies[1:]
		} else {
			role.Policies = []policies.PolicyID{"environment.start"}
		}
	case 4:
		if p := pick(d, doc.Policies); p != nil {
			p.Actions = append(slices.Clone(p.Actions), "acme.New")
		}
	case 5:
		if e := pick(d, doc.Environments); e != nil {
			e.Groups = nil
			for _, g := range doc.Groups {
				if d.Roll(3) == 0 {
					e.Groups = append(e.Groups, g.ID)
				}
			}
		}
	case 6: // a group to the root, or below one that stands before it, which cannot be below it
		if len(doc.Groups) > 0 {
			i := d.Roll(len(doc.Groups))
			doc.Groups[i].Parent = nil
			if i > 0 && d.Roll(3) > 0 {
				parent := doc.Groups[d.Roll(i)].ID
				for at := doc.Groups[slices.IndexFunc(doc.Groups, func(g policies.Group) bool { return g.ID == parent })]; ; {
					if at.ID == doc.Groups[i].ID {
						return doc
					}
					if at.Parent == nil {
						break
					}
					at = doc.Groups[slices.IndexFunc(doc.Groups, func(g policies.Group) bool { return g.ID == *at.Parent })]
				}
				doc.Groups[i].Parent = &parent
			}
		}
	case 7:
		doc.Environments = append(doc.Environments, policies.Environment{ID: policies.EnvironmentID(fmt.Sprintf("made%d", len(doc.Environments)))})
		g := policies.Group{ID: policies.GroupID(fmt.Sprintf("made%d", len(doc.Groups)))}
		if parent := pick(d, doc.Groups); parent != nil {
			g.Parent = &parent.ID
			doc.Environments[len(doc.Environments)-1].Groups = []policies.GroupID{parent.ID}
		}
		doc.Groups = append(doc.Groups, g)
	case 8:
		return dropGroup(d, doc)
	}
	return doc
}

// dropGroup removes a group: what is in it moves up, its grants go.
func dropGroup(d policiestest.Dice, doc policies.Document) policies.Document {
	if len(doc.Groups) == 0 {
		return doc
	}
	at := d.Roll(len(doc.Groups))
	gone := doc.Groups[at]
	doc.Groups = slices.Delete(doc.Groups, at, at+1)
	for i, g := range doc.Groups {
		if g.Parent != nil && *g.Parent == gone.ID {
			doc.Groups[i].Parent = gone.Parent
		}
	}
	for i, e := range doc.Environments {
		if slices.Contains(e.Groups, gone.ID) {
			groups := slices.DeleteFunc(slices.Clone(e.Groups), func(g policies.GroupID) bool { return g == gone.ID })
			if gone.Parent != nil && !slices.Contains(groups, *gone.Parent) {
				groups = append(groups, *gone.Parent)
			}
			doc.Environments[i].Groups = groups
		}
	}
	for i, m := range doc.Members {
		doc.Members[i].Grants = slices.DeleteFunc(slices.Clone(m.Grants), func(g policies.Grant) bool {
			return g.Resource == policies.Resource{Type: policies.TypeGroup, ID: string(gone.ID)}
		})
	}
	return doc
}
