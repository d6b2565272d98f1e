package ondemand

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// history is a platform that changes at random, as documents by revision.
type history struct {
	dice  policiestest.Dice
	world policiestest.World
	docs  []policies.Document
}

func newHistory(tb testing.TB, d policiestest.Dice) *history {
	tb.Helper()
	w, err := policiestest.NewWorld(d, testTime)
	require.NoError(tb, err)
	return &history{dice: d, world: w, docs: w.Documents}
}

// question is one about the world as it was made first, or as it was last: ids
// that are gone are asked for too.
func (h *history) question() policiestest.Question { return h.world.Question(h.dice) }

// step changes the documents, and gives the objects of the change; there may be
// none.
func (h *history) step(tb testing.TB) []policies.Object {
	tb.Helper()
	before := objectsOf(tb, h.docs)
	next := h.world
	next.Documents = cloneDocuments(h.docs)
	switch h.dice.Roll(8) {
	case 0: // another platform altogether, with many of the ids of this
		w, err := policiestest.NewWorld(h.dice, testTime)
		require.NoError(tb, err)
		next = w
	case 1: // an account goes, or comes back
		if len(next.Documents) > 1 {
			next.Documents = slices.Delete(next.Documents, 0, 1)
		}
	default:
		for range 1 + h.dice.Roll(3) {
			h.mutate(&next.Documents[h.dice.Roll(len(next.Documents))])
		}
	}
	h.world, h.docs = next, next.Documents
	return difference(before, objectsOf(tb, h.docs))
}

func cloneDocuments(docs []policies.Document) []policies.Document {
	docs = slices.Clone(docs)
	for i := range docs {
		d := &docs[i]
		d.Groups, d.Environments, d.Roles, d.Members = slices.Clone(d.Groups), slices.Clone(d.Environments), slices.Clone(d.Roles), slices.Clone(d.Members)
		for j := range d.Members {
			d.Members[j].Grants = slices.Clone(d.Members[j].Grants)
		}
	}
	return docs
}

// mutate does one thing that an owner may do.
func (h *history) mutate(d *policies.Document) {
	roll := h.dice.Roll
	switch roll(6) {
	case 0:
		if len(d.Members) > 0 {
			statuses := []policies.Status{policies.StatusActive, policies.StatusActive, policies.StatusSuspended, policies.StatusPending, policies.StatusLeft}
			d.Members[roll(len(d.Members))].Status = statuses[roll(len(statuses))]
		}
	case 1:
		if len(d.Members) > 0 {
			m := &d.Members[roll(len(d.Members))]
			if len(m.Grants) > 0 {
				at := roll(len(m.Grants))
				m.Grants = slices.Delete(m.Grants, at, at+1)
			}
		}
	case 2:
		if len(d.Members) > 0 {
			at := roll(len(d.Members))
			d.Members = slices.Delete(d.Members, at, at+1)
		}
	case 3:
		if len(d.Environments) > 0 {
			e := &d.Environments[roll(len(d.Environments))]
			e.Groups = nil
			for _, g := range d.Groups {
				if roll(3) == 0 {
					e.Groups = append(e.Groups, g.ID)
				}
			}
			slices.Sort(e.Groups)
		}
	case 4:
		r := &d.Roles[roll(len(d.Roles))]
		r.Policies = nil
		for range 1 + roll(3) {
			r.Policies = append(r.Policies, h.world.Catalogue.Policies[roll(len(h.world.Catalogue.Policies))].ID)
		}
		slices.Sort(r.Policies)
		r.Policies = slices.Compact(r.Policies)
	case 5:
		h.dropEnvironment(d)
	}
}

func (h *history) dropEnvironment(d *policies.Document) {
	if len(d.Environments) == 0 {
		return
	}
	at := h.dice.Roll(len(d.Environments))
	gone := policies.Resource{Type: policies.TypeEnvironment, ID: string(d.Environments[at].ID)}
	d.Environments = slices.Delete(d.Environments, at, at+1)
	for i := range d.Members {
		d.Members[i].Grants = slices.DeleteFunc(d.Members[i].Grants, func(g policies.Grant) bool { return g.Resource == gone })
	}
}

// difference is the change from one platform to another.
func difference(before, after []policies.Object) []policies.Object {
	type key struct {
		kind  policies.Kind
		owner policies.AccountID
		id    string
	}
	keyOf := func(o policies.Object) key { return key{o.Kind, o.Owner, o.ID} }
	had := map[key]policies.Object{}
	for _, o := range before {
		had[keyOf(o)] = o
	}
	var all []policies.Object
	for _, o := range after {
		if have, ok := had[keyOf(o)]; !ok || string(have.Body) != string(o.Body) {
			all = append(all, o)
		}
		delete(had, keyOf(o))
	}
	for _, o := range before {
		if _, gone := had[keyOf(o)]; gone {
			all = append(all, policies.Object{Kind: o.Kind, Owner: o.Owner, ID: o.ID, Body: []byte("null")})
		}
	}
	return all
}
