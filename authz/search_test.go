package authz

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestSearchFindsWhatChecksAllow: over random worlds and changes, a search finds
// just what the naive model allows of all there is, page by page, each once.
func TestSearchFindsWhatChecksAllow(t *testing.T) {
	t.Parallel()
	catalogue, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	policy := newTestPolicy(t, catalogue)
	inForce := []*Policy{policy, guardedPolicy(t, policy)}
	for round := range 25 {
		seed := rand.Uint64()
		m := newMachine(t, policiestest.SeededDice(seed), inForce[round%2])
		e := newTestEngine(t, Options{Clock: m.clock.now})
		require.NoError(t, e.Reset(buildState(t, m.policy, testHeader(1), m.objects())))
		if m.dice.Roll(2) == 0 {
			require.NoError(t, e.Apply(context.Background(), changeAfter(t, e.State(), m.change()...)))
			m.clock.advance(one(m.dice, []time.Duration{0, time.Hour, 24 * time.Hour}))
		}
		model, now := m.model(), e.Now()
		for _, q := range m.questions()[:6] {
			for _, sought := range []Sought{SoughtSubjects, SoughtResources, SoughtActions} {
				if sought == SoughtResources {
					q.Properties = "" // of what is looked for there are none
				}
				s := Search{Sought: sought, Question: asQuestion(q), Limit: 1 + m.dice.Roll(4)}
				got := searchAll(t, e, s)
				want := allowed(m, model, s, now)
				slices.Sort(got)
				if !slices.Equal(want, got) {
					t.Fatalf("seed %d: %+v: found %q, the model allows %q", seed, s, got, want)
				}
			}
		}
	}
}

// searchAll follows the pages of s to the end.
func searchAll(t *testing.T, e *Engine, s Search) (ids []string) {
	t.Helper()
	for {
		page, err := e.Search(context.Background(), 0, s)
		require.NoError(t, err)
		require.Equal(t, e.State().Revision(), page.Revision)
		require.LessOrEqual(t, len(page.IDs), s.Limit)
		ids = append(ids, page.IDs...)
		if page.Next == nil {
			return ids
		}
		require.Len(t, page.IDs, s.Limit, "a page with another after it is full")
		s.From = page.Next
	}
}

// allowed is what the model allows of everything that there is.
func allowed(m *machine, model policiestest.Model, s Search, now time.Time) []string {
	candidates := map[string]bool{}
	for _, doc := range m.docs {
		switch s.Sought {
		case SoughtSubjects:
			candidates[string(doc.Account.ID)] = true
		case SoughtResources:
			for _, r := range m.resources(doc) {
				if string(r.Type) == s.Question.ResourceType {
					candidates[r.ID] = true
				}
			}
		case SoughtActions:
			for name := range m.policy.numbers {
				candidates[string(name)] = true
			}
			for _, p := range doc.Policies {
				for _, name := range p.Actions {
					candidates[string(name)] = true
				}
			}
		}
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(candidates)) {
		q := policiestest.Question{
			SubjectType: s.Question.SubjectType, Subject: s.Question.Subject, Action: s.Question.Action,
			ResourceType: s.Question.ResourceType, ResourceID: s.Question.ResourceID,
		}
		if r := s.Question.Request; r != nil {
			q.Context, q.Properties = string(r.Context), string(r.ResourceProperties)
		}
		switch s.Sought {
		case SoughtSubjects:
			q.Subject = id
		case SoughtResources:
			q.ResourceID = id
		case SoughtActions:
			q.Action = id
		}
		if model.Check(q, now).Decision {
			ids = append(ids, id)
		}
	}
	return ids
}

// hosting is an owner with many environments, of which a member has some by
// groups, by grants of their own, and by the category.
func hosting(environments int) policies.Document {
	d := policies.Document{
		Account: policies.Account{ID: "host"},
		Roles: []policies.Role{
			{ID: "view", Name: "View", Policies: []policies.PolicyID{"environment.view"}},
			{ID: "start", Name: "Start", Policies: []policies.PolicyID{"environment.start"}},
		},
	}
	for i := range 50 {
		d.Groups = append(d.Groups, policies.Group{ID: policies.GroupID(fmt.Sprint("g", i))})
	}
	member := policies.DocumentMember{Account: policies.DocumentAccount{ID: new(policies.AccountID("guest")), Email: "guest"}, Status: policies.StatusActive}
	give := func(kind policies.ResourceType, id string, role policies.RoleID) {
		member.Grants = append(member.Grants, policies.Grant{Resource: policies.Resource{Type: kind, ID: id}, Roles: []policies.RoleID{role}})
	}
	for i := range environments {
		e := policies.Environment{ID: policies.EnvironmentID(fmt.Sprintf("e%06d", i))}
		if i%3 > 0 {
			e.Groups = []policies.GroupID{d.Groups[i%50].ID}
		}
		d.Environments = append(d.Environments, e)
		if i%20 == 0 {
			give(policies.TypeEnvironment, string(e.ID), "start")
		}
	}
	for i := range 10 {
		give(policies.TypeGroup, string(d.Groups[i].ID), "start")
	}
	give(policies.TypeEnvironments, "host", "view")
	d.Members = []policies.DocumentMember{member}
	return d
}

const startEnv, viewEnv = "environment.control.StartEnv", "environment.control.GetEnvInfo"

func whichMay(action string, limit int) Search {
	return Search{
		Sought: SoughtResources, Limit: limit,
		Question: Question{SubjectType: subjectAccount, Subject: "guest", Action: action, ResourceType: "environment"},
	}
}

// TestSearchEvaluatesWhatDiffers: a search over thousands of environments costs as
// many evaluations as there are different ones.
func TestSearchEvaluatesWhatDiffers(t *testing.T) {
	t.Parallel()
	policy := embeddedPolicy(t)
	evaluated := 0
	state := buildState(t, policy, testHeader(1), objectsOf(t, policy, []policies.Document{hosting(2000)}))
	e := newTestEngine(t, Options{Clock: newTestClock().now})
	require.NoError(t, e.Reset(state))
	same := newAlike(e, state, e.now(), policies.TypeEnvironment)
	for _, environment := range hosting(2000).Environments {
		q := whichMay(startEnv, 0).Question
		q.ResourceID = string(environment.ID)
		if same.find(q.ResourceID) == nil {
			evaluated++
		}
		got, err := same.allows(t.Context(), &q, q.ResourceID, "host")
		require.NoError(t, err)
		want, err := e.Check(t.Context(), 0, q)
		require.NoError(t, err)
		require.Equal(t, want.Allow, got, "%s", environment.ID)
	}
	// In no group, in one that is granted, in one that is not, and granted itself.
	require.Equal(t, 4, evaluated)
}

// TestSearchKeepsItsRevision: pages are of one revision, whatever changes between
// them, as long as it is kept.
func TestSearchKeepsItsRevision(t *testing.T) {
	t.Parallel()
	policy, clock := embeddedPolicy(t), newTestClock()
	objects := objectsOf(t, policy, []policies.Document{hosting(100)})
	e := newTestEngine(t, Options{Clock: clock.now, MinRevisionWait: -1})
	require.NoError(t, e.Reset(buildState(t, policy, testHeader(1), objects)))
	s := whichMay(startEnv, 3)
	all := searchAll(t, e, whichMay(startEnv, 1000))
	first, err := e.Search(t.Context(), 0, s)
	require.NoError(t, err)
	s.From = first.Next

	gone := object(t, policies.KindMember, "host", string(memberID("host", "guest")), nil)
	var grants []policies.Object
	for _, o := range objects {
		if o.Kind == policies.KindGrant {
			grants = append(grants, policies.Object{Kind: o.Kind, Owner: o.Owner, ID: o.ID})
		}
	}
	require.NoError(t, e.Apply(t.Context(), changeAfter(t, e.State(), append(grants, gone)...)))
	require.Empty(t, searchAll(t, e, whichMay(startEnv, 3)), "a new search is of the present")
	second, err := e.Search(t.Context(), 0, s)
	require.NoError(t, err)
	require.Equal(t, policies.Revision(1), second.Revision)
	require.Equal(t, all[:6], append(first.IDs, second.IDs...))

	var place *PlaceError
	_, err = e.Search(t.Context(), 2, s)
	require.ErrorAs(t, err, &place, "a page is never newer than its first")
	clock.advance(keptFor)
	_, err = e.Search(t.Context(), 0, s)
	require.ErrorAs(t, err, &place, "nobody asked in time")
	s.From = &Place{Revision: 99}
	var late *RevisionError
	_, err = e.Search(t.Context(), 0, s)
	require.ErrorAs(t, err, &late, "another sidecar is ahead")
}

// TestSearchForgetsWhatIsReplaced: what changes everything ends the searches.
func TestSearchForgetsWhatIsReplaced(t *testing.T) {
	t.Parallel()
	policy := embeddedPolicy(t)
	objects := objectsOf(t, policy, []policies.Document{hosting(100)})
	e := newTestEngine(t, Options{Clock: newTestClock().now, MinRevisionWait: -1})
	require.NoError(t, e.Reset(buildState(t, policy, testHeader(1), objects)))
	s := whichMay(startEnv, 3)
	first, err := e.Search(t.Context(), 0, s)
	require.NoError(t, err)
	s.From = first.Next
	require.NoError(t, e.Reset(buildState(t, policy, testHeader(2), objects)))
	var place *PlaceError
	_, err = e.Search(t.Context(), 0, s)
	require.ErrorAs(t, err, &place)
	// More searches than are kept: the oldest goes, the latest stay.
	for range keptRoots + 1 {
		s.From = nil
		page, err := e.Search(t.Context(), 0, s)
		require.NoError(t, err)
		s.From = page.Next
		_, err = e.Search(t.Context(), 0, s)
		require.NoError(t, err)
		require.NoError(t, e.Apply(t.Context(), changeAfter(t, e.State(), object(t, policies.KindAccount, "", "someone", policies.AccountBody{}))))
	}
	require.Len(t, e.kept.roots, keptRoots)
}

func TestSearchStops(t *testing.T) {
	t.Parallel()
	policy := embeddedPolicy(t)
	e := newTestEngine(t, Options{})
	_, err := e.Search(t.Context(), 0, whichMay(startEnv, 1))
	require.ErrorAs(t, err, new(*UnavailableError))
	require.NoError(t, e.Reset(buildState(t, policy, testHeader(1), objectsOf(t, policy, []policies.Document{hosting(10)}))))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, sought := range []Sought{SoughtSubjects, SoughtResources} {
		s := whichMay(startEnv, 1)
		s.Sought, s.Question.ResourceID = sought, "e000001"
		_, err = e.Search(ended, 0, s)
		require.ErrorIs(t, err, context.Canceled)
	}
}

// BenchmarkSearch: which of an owner's 10,000 environments may X act on. The target
// is 20 ms for the first page; a page that finds nothing looks at all of them.
func BenchmarkSearch(b *testing.B) {
	policy := embeddedPolicy(b)
	e := newTestEngine(b, Options{Clock: newTestClock().now})
	require.NoError(b, e.Reset(buildState(b, policy, testHeader(1), objectsOf(b, policy, []policies.Document{hosting(10_000)}))))
	for name, s := range map[string]Search{
		"page=100":           whichMay(startEnv, 100),
		"page=1000":          whichMay(startEnv, 1000),
		"all":                whichMay(viewEnv, 10_000),
		"none of all":        whichMay("environment.control.DeleteEnv", 100),
		"an unknown subject": {Sought: SoughtResources, Limit: 1, Question: Question{SubjectType: subjectAccount, Subject: "x", ResourceType: "environment"}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := e.Search(b.Context(), 0, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
