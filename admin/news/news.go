package news

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// maxItems is how many things a mail lists.
const maxItems = 20

// Log is the change log, and the names that things have now.
type Log interface {
	EntriesAfter(ctx context.Context, filter store.AuditFilter, after store.Position, limit int) ([]store.Entry, error)
	ResourceNames(ctx context.Context, owner policies.AccountID, resources []policies.Resource) (map[policies.Resource]string, error)
}

var _ Log = (*store.Store)(nil)

// Teller makes the notices of changes. For any number of goroutines.
type Teller struct {
	log   Log
	state func() *authz.State
	clock func() time.Time
	// pairs and entries are the bounds of what is compared.
	pairs, entries int
}

// NewTeller makes a teller, which sees the platform by state, and its time by clock.
func NewTeller(log Log, state func() *authz.State, clock func() time.Time) *Teller {
	return &Teller{log: log, state: state, clock: clock, pairs: difference.DefaultLimit, entries: maxEntries}
}

// News is a [store.News]: what the changes of owner since first mean to its members.
func (t *Teller) News(ctx context.Context, owner policies.AccountID, first policies.Revision) ([]store.Notice, policies.Revision, error) {
	state := t.state()
	if state.Revision() < first {
		return nil, 0, fmt.Errorf("the state in this process is at revision %d, and the change at %d", state.Revision(), first)
	}
	if _, there := state.Account(owner); !there {
		return nil, state.Revision(), nil
	}
	b, err := t.read(ctx, state, owner, first)
	if err != nil {
		return nil, 0, err
	}
	if b.tooBig {
		return much(state, owner, b.authors()), state.Revision(), nil
	}
	states, err := b.states(ctx)
	if err != nil {
		return nil, 0, err
	}
	after := states[len(states)-1]
	notices, err := t.compare(ctx, owner, &b, states)
	var limit *difference.LimitError
	if errors.As(err, &limit) {
		return much(after, owner, b.authors()), b.last, nil
	}
	if err != nil || len(notices) == 0 {
		return nil, b.last, err
	}
	if err := t.signAll(ctx, &b, states, notices); err != nil {
		return nil, 0, err
	}
	return notices, b.last, t.name(ctx, &b, notices)
}

// compare makes a notice for each member for whom a bundle changed anything: since it
// began, or since the member became active within it.
func (t *Teller) compare(ctx context.Context, owner policies.AccountID, b *bundle, states []*authz.State) ([]store.Notice, error) {
	joined := map[policies.CollaborationID]int{} // the step that made a member active, the last one
	for i := range b.steps {
		for _, o := range b.steps[i].objects {
			if id := policies.CollaborationID(o.ID); o.Kind == policies.KindMember && active(states[i+1], owner, id) && !active(states[i], owner, id) {
				joined[id] = i
			}
		}
	}
	left := t.pairs
	since := func(from int, only func(policies.CollaborationID) bool) ([]store.Notice, error) {
		gathered := newGathering(owner, states[from], states[len(states)-1], t.clock())
		change := difference.Change{Before: states[from], After: states[len(states)-1]}
		for _, s := range b.steps[from:] {
			change.Objects = append(change.Objects, s.objects...)
		}
		err := change.Each(ctx, difference.Options{Now: t.clock(), As: difference.Active, Only: only, Limit: max(left, 1)}, func(d difference.Difference) error {
			left--
			return gathered.add(ctx, d)
		})
		return gathered.notices, errors.Join(err, gathered.close(ctx))
	}
	notices, err := since(0, func(id policies.CollaborationID) bool {
		_, later := joined[id]
		return !later
	})
	for _, step := range slices.Compact(slices.Sorted(maps.Values(joined))) {
		if err != nil {
			return nil, err
		}
		var more []store.Notice
		more, err = since(step+1, func(id policies.CollaborationID) bool {
			at, later := joined[id]
			return later && at == step
		})
		notices = append(notices, more...)
	}
	return notices, err
}

func active(state *authz.State, owner policies.AccountID, id policies.CollaborationID) bool {
	m, ok := memberOf(state, owner, id)
	return ok && m.Status() == policies.StatusActive
}

// much tells each active member that more has changed than is compared.
func much(state *authz.State, owner policies.AccountID, by []policies.AccountID) []store.Notice {
	var notices []store.Notice
	account, _ := state.Account(owner)
	for m := range account.Members() {
		if m.Status() == policies.StatusActive {
			n := store.Notice{Kind: store.NoticeChanged, Owner: owner, Member: m.ID()}
			sign(&n, by)
			notices = append(notices, n)
		}
	}
	return notices
}

// gathering gathers what changed, member by member.
type gathering struct {
	owner         policies.AccountID
	before, after *authz.State
	was, at       *difference.Asker
	member        policies.CollaborationID
	now           time.Time
	changes       []store.SharedChange // of member
	notices       []store.Notice
}

func newGathering(owner policies.AccountID, before, after *authz.State, now time.Time) *gathering {
	return &gathering{
		now: now, owner: owner, before: before, after: after, was: difference.NewAsker(before, owner), at: difference.NewAsker(after, owner),
	}
}

// add takes one difference: they come in the order of members.
func (g *gathering) add(ctx context.Context, d difference.Difference) error {
	if d.Member != g.member {
		if err := g.close(ctx); err != nil {
			return err
		}
		g.member = d.Member
	}
	if !active(g.before, g.owner, d.Member) || !active(g.after, g.owner, d.Member) || !g.shared(d) {
		return nil
	}
	g.changes = append(g.changes, store.SharedChange{
		Resource: d.Resource, Was: d.Was, Is: d.Is, Gains: len(d.Gained) > 0, Loses: len(d.Lost) > 0,
	})
	return nil
}

func memberOf(state *authz.State, owner policies.AccountID, id policies.CollaborationID) (authz.Member, bool) {
	account, ok := state.Account(owner)
	if !ok {
		return authz.Member{}, false
	}
	return account.Member(id)
}

// shared tells whether a difference is one of what is shared, and not only of what
// there is: what was made or deleted below a grant is no news.
func (g *gathering) shared(d difference.Difference) bool {
	if len(g.was.Places(d.Resource)) > 0 && len(g.at.Places(d.Resource)) > 0 {
		return true
	}
	was, _ := memberOf(g.before, g.owner, d.Member)
	is, _ := memberOf(g.after, g.owner, d.Member)
	_, before := was.Grant(d.Resource)
	_, after := is.Grant(d.Resource)
	return before || after
}

// close makes the notice of the member at hand.
func (g *gathering) close(ctx context.Context) error {
	if len(g.changes) == 0 {
		return nil
	}
	told, err := g.folded(ctx)
	more := max(len(told)-maxItems, 0)
	g.notices = append(g.notices, store.Notice{
		Kind: store.NoticeChanged, Owner: g.owner, Member: g.member, Changes: slices.Clip(told[:len(told)-more]), More: more,
	})
	g.changes = nil
	return err
}

// folded are the changes, those that follow from a grant above told as one of what that
// is on: where a group is shared by another role, it is told and not what is in it.
func (g *gathering) folded(ctx context.Context) ([]store.SharedChange, error) {
	at := map[policies.Resource]int{}
	var told []store.SharedChange
	for _, c := range g.changes {
		from, err := g.source(ctx, c)
		if err != nil {
			return nil, err
		}
		if i, ok := at[from]; ok {
			told[i].Gains, told[i].Loses = told[i].Gains || c.Gains, told[i].Loses || c.Loses
			continue
		}
		c.Resource = from
		at[from] = len(told)
		told = append(told, c)
	}
	slices.SortStableFunc(told, func(x, y store.SharedChange) int {
		return cmp.Or(cmp.Compare(breadth(x.Resource), breadth(y.Resource)), policies.CompareResources(x.Resource, y.Resource))
	})
	return told, nil
}

// source is the resource with a grant that a change comes from: itself, or the broadest
// one above whose roles were and are the same.
func (g *gathering) source(ctx context.Context, c store.SharedChange) (policies.Resource, error) {
	was, _ := memberOf(g.before, g.owner, g.member)
	is, _ := memberOf(g.after, g.owner, g.member)
	granted := func(r policies.Resource) bool {
		_, before := was.Grant(r)
		_, after := is.Grant(r)
		return before || after
	}
	found := c.Resource
	if granted(found) {
		return found, nil
	}
	for _, above := range slices.Concat(g.at.Places(c.Resource), g.was.Places(c.Resource)) {
		if !granted(above) || found != c.Resource && breadth(above) >= breadth(found) {
			continue
		}
		before, err1 := g.was.Roles(ctx, g.now, was.Grant, above)
		after, err2 := g.at.Roles(ctx, g.now, is.Grant, above)
		if err := errors.Join(err1, err2); err != nil {
			return found, err
		}
		if slices.Equal(before, c.Was) && slices.Equal(after, c.Is) {
			found = above
		}
	}
	return found, nil
}

var broadestFirst = []policies.ResourceType{
	policies.TypeAccount, policies.TypeEnvironments, policies.TypeGroups, policies.TypeGroup, policies.TypeEnvironment,
}

// breadth puts first what is most.
func breadth(r policies.Resource) int {
	return slices.Index(broadestFirst, r.Type)
}

// signAll says in each notice who made the changes that it tells of.
func (t *Teller) signAll(ctx context.Context, b *bundle, states []*authz.State, notices []store.Notice) error {
	everyone := b.authors()
	var of map[policies.CollaborationID][]policies.AccountID
	if len(everyone) > 1 {
		var err error
		if of, err = t.authors(ctx, b, states); err != nil {
			return err
		}
	}
	for i := range notices {
		by := of[notices[i].Member]
		if len(by) == 0 {
			by = everyone
		}
		sign(&notices[i], by)
	}
	return nil
}

func sign(n *store.Notice, by []policies.AccountID) {
	if len(by) > 0 {
		n.By = by[0]
	}
	if len(by) > 1 {
		n.Also = by[1:]
	}
}

// authors are those who made a difference to each member. Each step is looked at by
// itself, since a bundle may hold what concerns others.
func (t *Teller) authors(ctx context.Context, b *bundle, states []*authz.State) (map[policies.CollaborationID][]policies.AccountID, error) {
	of := map[policies.CollaborationID][]policies.AccountID{}
	left := t.pairs
	for i, s := range b.steps {
		step := difference.Change{Before: states[i], After: states[i+1], Objects: s.objects}
		err := step.Each(ctx, difference.Options{Now: t.clock(), As: difference.Active, Limit: max(left, 1)}, func(d difference.Difference) error {
			left--
			whole := active(states[i], d.Owner, d.Member) && active(states[i+1], d.Owner, d.Member)
			if whole && !slices.Contains(of[d.Member], s.by) {
				of[d.Member] = append(of[d.Member], s.by)
			}
			return nil
		})
		var limit *difference.LimitError
		if errors.As(err, &limit) {
			return nil, nil // any of them may have
		}
		if err != nil {
			return nil, err
		}
	}
	return of, nil
}

// name gives things the names that they have, or had.
func (t *Teller) name(ctx context.Context, b *bundle, notices []store.Notice) error {
	var things []policies.Resource
	known := map[policies.Resource]bool{}
	for _, n := range notices {
		for _, c := range n.Changes {
			if !known[c.Resource] {
				known[c.Resource], things = true, append(things, c.Resource)
			}
		}
	}
	names, err := t.log.ResourceNames(ctx, notices[0].Owner, things)
	if err != nil {
		return err
	}
	for i := range notices {
		for j := range notices[i].Changes {
			c := &notices[i].Changes[j]
			if c.Name = names[c.Resource]; c.Name == "" {
				c.Name = b.names[c.Resource]
			}
		}
	}
	return nil
}
