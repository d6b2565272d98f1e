package authz

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// machine is a platform that changes at random, as the store would change it: it
// edits documents, and takes the objects that differ for the change.
type machine struct {
	t       testing.TB
	dice    policiestest.Dice
	clock   *testClock
	docs    map[policies.AccountID]*policies.Document
	policy  *Policy
	others  []*Policy // that may come into force
	members int       // made so far
}

func newMachine(tb testing.TB, dice policiestest.Dice, inForce ...*Policy) *machine {
	tb.Helper()
	m := &machine{t: tb, dice: dice, clock: newTestClock(), docs: map[policies.AccountID]*policies.Document{}, policy: inForce[0], others: inForce}
	w, err := policiestest.NewWorld(dice, testStart)
	require.NoError(tb, err)
	for i := range w.Documents {
		m.docs[w.Documents[i].Account.ID] = &w.Documents[i]
	}
	for _, d := range w.Documents {
		for _, x := range d.Members {
			if id := x.Account.ID; id != nil && m.docs[*id] == nil {
				m.docs[*id] = &policies.Document{Account: policies.Account{ID: *id}}
			}
		}
	}
	return m
}

// documents are the platform's, in order.
func (m *machine) documents() []policies.Document {
	var docs []policies.Document
	for _, id := range slices.Sorted(maps.Keys(m.docs)) {
		docs = append(docs, *m.docs[id])
	}
	return docs
}

func (m *machine) objects() []policies.Object { return objectsOf(m.t, m.policy, m.documents()) }

func (m *machine) model() policiestest.Model {
	return policiestest.Model{
		Catalogue: m.policy.Source().Catalogue, Documents: m.documents(), Guarded: len(m.policy.Source().Guardrails()) > 0,
	}
}

// change does a few random things at once, and gives the objects that differ, in
// random order.
func (m *machine) change() []policies.Object {
	type key struct {
		kind  policies.Kind
		owner policies.AccountID
		id    string
	}
	before := map[key]policies.Object{}
	for _, o := range m.objects() {
		before[key{o.Kind, o.Owner, o.ID}] = o
	}
	for range 1 + m.dice.Roll(3) {
		m.mutate()
	}
	var differ []policies.Object
	for _, o := range m.objects() {
		k := key{o.Kind, o.Owner, o.ID}
		if have, ok := before[k]; !ok || !bytes.Equal(have.Body, o.Body) {
			differ = append(differ, o)
		}
		delete(before, k)
	}
	for k := range before {
		differ = append(differ, object(m.t, k.kind, k.owner, k.id, nil))
	}
	slices.SortFunc(differ, func(a, b policies.Object) int { // maps are not as the dice fall
		return strings.Compare(string(a.Kind)+string(a.Owner)+a.ID, string(b.Kind)+string(b.Owner)+b.ID)
	})
	shuffle(m.dice, differ)
	return differ
}

func shuffle[T any](d policiestest.Dice, list []T) {
	for i := len(list) - 1; i > 0; i-- {
		j := d.Roll(i + 1)
		list[i], list[j] = list[j], list[i]
	}
}

func one[T any](d policiestest.Dice, list []T) T { return list[d.Roll(len(list))] }

func (m *machine) mutate() {
	ids := slices.Sorted(maps.Keys(m.docs))
	doc := m.docs[one(m.dice, ids)]
	if len(doc.Roles) == 0 || m.dice.Roll(2) == 0 { // owners of much are more interesting
		for _, id := range ids {
			if len(m.docs[id].Members) > len(doc.Members) {
				doc = m.docs[id]
			}
		}
	}
	switch m.dice.Roll(22) {
	case 0, 1, 2, 3:
		m.putGrant(doc)
	case 4:
		if x := m.member(doc); x != nil && len(x.Grants) > 0 {
			at := m.dice.Roll(len(x.Grants))
			x.Grants = slices.Delete(slices.Clone(x.Grants), at, at+1)
		}
	case 5, 6:
		m.setStatus(doc)
	case 7:
		m.addMember(doc)
	case 8:
		if len(doc.Members) > 0 {
			at := m.dice.Roll(len(doc.Members))
			doc.Members = slices.Delete(slices.Clone(doc.Members), at, at+1)
		}
	case 9:
		m.rebind(doc)
	case 10, 11:
		m.putEnvironment(doc)
	case 12:
		m.dropEnvironment(doc)
	case 13:
		m.transfer(doc, m.docs[one(m.dice, ids)])
	case 14, 15:
		m.putGroup(doc)
	case 16:
		m.dropGroup(doc)
	case 17:
		m.putRole(doc)
	case 18:
		m.dropRole(doc)
	case 19:
		m.putPolicy(doc)
	case 20:
		m.dropPolicy(doc)
	case 21:
		m.rare(ids)
	}
}

// rare things: accounts come and go, the policy in force changes.
func (m *machine) rare(ids []policies.AccountID) {
	switch m.dice.Roll(4) {
	case 0:
		m.policy = one(m.dice, m.others)
	case 1, 2:
		id := policies.AccountID(fmt.Sprintf("new-%d", m.dice.Roll(3)))
		if m.docs[id] == nil {
			m.docs[id] = &policies.Document{Account: policies.Account{ID: id}}
		}
	case 3:
		if len(ids) < 3 {
			return
		}
		gone := one(m.dice, ids)
		delete(m.docs, gone)
		for _, doc := range m.docs {
			for i, x := range doc.Members {
				if x.Account.ID != nil && *x.Account.ID == gone {
					doc.Members = slices.Clone(doc.Members)
					doc.Members[i].Account.ID, doc.Members[i].Status, doc.Members[i].Grants = nil, policies.StatusRemoved, nil
				}
			}
		}
	}
}

func (m *machine) member(doc *policies.Document) *policies.DocumentMember {
	if len(doc.Members) == 0 {
		return nil
	}
	doc.Members = slices.Clone(doc.Members)
	return &doc.Members[m.dice.Roll(len(doc.Members))]
}

func (m *machine) resources(doc *policies.Document) []policies.Resource {
	id := string(doc.Account.ID)
	all := []policies.Resource{{Type: policies.TypeEnvironments, ID: id}, {Type: policies.TypeGroups, ID: id}, {Type: policies.TypeAccount, ID: id}}
	for _, e := range doc.Environments {
		all = append(all, policies.Resource{Type: policies.TypeEnvironment, ID: string(e.ID)})
	}
	for _, g := range doc.Groups {
		all = append(all, policies.Resource{Type: policies.TypeGroup, ID: string(g.ID)})
	}
	return all
}

func (m *machine) putGrant(doc *policies.Document) {
	x := m.member(doc)
	if x == nil || len(doc.Roles) == 0 {
		return
	}
	g := policies.Grant{Resource: one(m.dice, m.resources(doc)), Roles: []policies.RoleID{one(m.dice, doc.Roles).ID}}
	if second := one(m.dice, doc.Roles).ID; second != g.Roles[0] && m.dice.Roll(3) == 0 {
		g.Roles = append(g.Roles, second)
	}
	slices.Sort(g.Roles)
	if m.dice.Roll(2) == 0 {
		ends := []time.Duration{-time.Hour, 0, time.Microsecond, time.Hour, 24 * time.Hour, 200 * 365 * 24 * time.Hour}
		at := policies.NormalizeTime(m.clock.now().Add(one(m.dice, ends)))
		if m.dice.Roll(4) == 0 {
			at = time.Date(2997, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		g.ExpiresAt = &at
	}
	x.Grants = slices.DeleteFunc(slices.Clone(x.Grants), func(h policies.Grant) bool { return h.Resource == g.Resource })
	x.Grants = append(x.Grants, g)
}

func (m *machine) setStatus(doc *policies.Document) {
	if x := m.member(doc); x != nil {
		x.Status = policies.StatusActive
		if m.dice.Roll(2) == 0 {
			x.Status = one(m.dice, policies.Statuses)
		}
		if x.Status == policies.StatusRemoved {
			x.Grants = nil
		}
	}
}

// free are the accounts without a record at doc's owner.
func (m *machine) free(doc *policies.Document) []policies.AccountID {
	var free []policies.AccountID
	for _, id := range slices.Sorted(maps.Keys(m.docs)) {
		has := func(x policies.DocumentMember) bool { return x.Account.ID != nil && *x.Account.ID == id }
		if id != doc.Account.ID && !slices.ContainsFunc(doc.Members, has) {
			free = append(free, id)
		}
	}
	return free
}

func (m *machine) addMember(doc *policies.Document) {
	free := m.free(doc)
	if len(free) == 0 {
		return
	}
	m.members++
	x := policies.DocumentMember{Status: policies.StatusActive, Account: policies.DocumentAccount{Email: fmt.Sprintf("m%d", m.members)}}
	x.Account.ID = new(one(m.dice, free))
	doc.Members = append(slices.Clone(doc.Members), x)
}

// rebind gives a record to another account, to none, or swaps two.
func (m *machine) rebind(doc *policies.Document) {
	x := m.member(doc)
	if x == nil {
		return
	}
	y := &doc.Members[m.dice.Roll(len(doc.Members))]
	switch free := m.free(doc); {
	case m.dice.Roll(2) == 0:
		x.Account.ID, y.Account.ID = y.Account.ID, x.Account.ID
	case len(free) > 0 && m.dice.Roll(2) == 0:
		x.Account.ID = new(one(m.dice, free))
	default:
		x.Account.ID = nil
	}
}

// freeID gives an id of a small pool that nobody on the platform has.
func freeID[S ~string](m *machine, prefix string, taken func(*policies.Document, S) bool) (S, bool) {
	id := S(fmt.Sprintf("%s-%d", prefix, m.dice.Roll(4)))
	for _, d := range m.docs {
		if taken(d, id) {
			return "", false
		}
	}
	return id, true
}

func (m *machine) putEnvironment(doc *policies.Document) {
	groups := []policies.GroupID{}
	for _, g := range doc.Groups {
		if m.dice.Roll(3) == 0 {
			groups = append(groups, g.ID)
		}
	}
	slices.Sort(groups)
	doc.Environments = slices.Clone(doc.Environments)
	if len(doc.Environments) > 0 && m.dice.Roll(2) == 0 {
		doc.Environments[m.dice.Roll(len(doc.Environments))].Groups = groups
		return
	}
	id, ok := freeID(m, "e", func(d *policies.Document, id policies.EnvironmentID) bool {
		return slices.ContainsFunc(d.Environments, func(e policies.Environment) bool { return e.ID == id })
	})
	if ok {
		doc.Environments = append(doc.Environments, policies.Environment{ID: id, Groups: groups})
	}
}

func (doc *docEdit) dropGrants(of func(policies.Grant) bool) {
	doc.Members = slices.Clone(doc.Members)
	for i, x := range doc.Members {
		doc.Members[i].Grants = slices.DeleteFunc(slices.Clone(x.Grants), of)
	}
}

type docEdit struct{ *policies.Document }

func (m *machine) dropEnvironment(doc *policies.Document) (policies.Environment, bool) {
	if len(doc.Environments) == 0 {
		return policies.Environment{}, false
	}
	at := m.dice.Roll(len(doc.Environments))
	gone := doc.Environments[at]
	doc.Environments = slices.Delete(slices.Clone(doc.Environments), at, at+1)
	(&docEdit{doc}).dropGrants(func(g policies.Grant) bool {
		return g.Resource == policies.Resource{Type: policies.TypeEnvironment, ID: string(gone.ID)}
	})
	return gone, true
}

func (m *machine) transfer(from, to *policies.Document) {
	if gone, ok := m.dropEnvironment(from); ok {
		to.Environments = append(slices.Clone(to.Environments), policies.Environment{ID: gone.ID, Groups: []policies.GroupID{}})
	}
}

func (m *machine) putGroup(doc *policies.Document) {
	doc.Groups = slices.Clone(doc.Groups)
	var parent *policies.GroupID
	if len(doc.Groups) > 0 && m.dice.Roll(4) > 0 {
		parent = new(one(m.dice, doc.Groups).ID)
	}
	if len(doc.Groups) > 0 && m.dice.Roll(2) == 0 {
		at := m.dice.Roll(len(doc.Groups))
		for p := parent; p != nil; { // not below itself
			if *p == doc.Groups[at].ID {
				return
			}
			above := slices.IndexFunc(doc.Groups, func(g policies.Group) bool { return g.ID == *p })
			p = doc.Groups[above].Parent
		}
		doc.Groups[at].Parent = parent
		return
	}
	id, ok := freeID(m, "g", func(d *policies.Document, id policies.GroupID) bool {
		return slices.ContainsFunc(d.Groups, func(g policies.Group) bool { return g.ID == id })
	})
	if ok {
		doc.Groups = append(doc.Groups, policies.Group{ID: id, Parent: parent})
	}
}

func (m *machine) dropGroup(doc *policies.Document) {
	if len(doc.Groups) == 0 {
		return
	}
	at := m.dice.Roll(len(doc.Groups))
	gone := doc.Groups[at]
	doc.Groups = slices.Delete(slices.Clone(doc.Groups), at, at+1)
	for i, g := range doc.Groups {
		if g.Parent != nil && *g.Parent == gone.ID {
			doc.Groups[i].Parent = gone.Parent
		}
	}
	doc.Environments = slices.Clone(doc.Environments)
	for i, e := range doc.Environments {
		if !slices.Contains(e.Groups, gone.ID) {
			continue
		}
		groups := slices.DeleteFunc(slices.Clone(e.Groups), func(id policies.GroupID) bool { return id == gone.ID })
		if gone.Parent != nil {
			groups = append(groups, *gone.Parent)
		}
		slices.Sort(groups)
		doc.Environments[i].Groups = slices.Compact(groups)
	}
	(&docEdit{doc}).dropGrants(func(g policies.Grant) bool {
		return g.Resource == policies.Resource{Type: policies.TypeGroup, ID: string(gone.ID)}
	})
}

func (m *machine) putRole(doc *policies.Document) {
	usual := []policies.PolicyID{"environment.view", "environment.start", "env-group.manage", "account.members", "environment.create"}
	for _, p := range doc.Policies {
		usual = append(usual, p.ID)
	}
	r := policies.Role{ID: policies.RoleID(fmt.Sprintf("r-%d", m.dice.Roll(4))), ReceiveLoadAlerts: m.dice.Roll(2) == 0, Policies: []policies.PolicyID{}}
	if len(doc.Roles) > 0 && m.dice.Roll(3) > 0 { // one that is used, perhaps
		r.ID = one(m.dice, doc.Roles).ID
	}
	r.Name = fmt.Sprintf("%s v%d", r.ID, m.dice.Roll(3))
	for range m.dice.Roll(4) {
		r.Policies = append(r.Policies, one(m.dice, usual))
	}
	slices.Sort(r.Policies)
	r.Policies = slices.Compact(r.Policies)
	doc.Roles = slices.DeleteFunc(slices.Clone(doc.Roles), func(x policies.Role) bool { return x.ID == r.ID })
	doc.Roles = append(doc.Roles, r)
}

func (m *machine) dropRole(doc *policies.Document) {
	if len(doc.Roles) == 0 {
		return
	}
	at := m.dice.Roll(len(doc.Roles))
	gone := doc.Roles[at].ID
	doc.Roles = slices.Delete(slices.Clone(doc.Roles), at, at+1)
	doc.Members = slices.Clone(doc.Members)
	for i := range doc.Members {
		kept := []policies.Grant{}
		for _, g := range doc.Members[i].Grants {
			g.Roles = slices.DeleteFunc(slices.Clone(g.Roles), func(id policies.RoleID) bool { return id == gone })
			if len(g.Roles) > 0 {
				kept = append(kept, g)
			}
		}
		doc.Members[i].Grants = kept
	}
}

func (m *machine) putPolicy(doc *policies.Document) {
	p := policies.Policy{ID: policies.PolicyID(fmt.Sprintf("own-%d", m.dice.Roll(3)))}
	if len(doc.Policies) > 0 && m.dice.Roll(3) > 0 {
		p.ID = one(m.dice, doc.Policies).ID
	}
	for _, kind := range policies.ResourceTypes {
		if m.dice.Roll(2) == 0 {
			p.Resources = append(p.Resources, kind)
		}
	}
	for _, name := range machineActions {
		if m.dice.Roll(2) == 0 {
			p.Actions = append(p.Actions, name)
		}
	}
	doc.Policies = slices.DeleteFunc(slices.Clone(doc.Policies), func(x policies.Policy) bool { return x.ID == p.ID })
	doc.Policies = append(doc.Policies, p)
}

func (m *machine) dropPolicy(doc *policies.Document) {
	if len(doc.Policies) == 0 {
		return
	}
	at := m.dice.Roll(len(doc.Policies))
	gone := doc.Policies[at].ID
	doc.Policies = slices.Delete(slices.Clone(doc.Policies), at, at+1)
	doc.Roles = slices.Clone(doc.Roles)
	for i, r := range doc.Roles {
		doc.Roles[i].Policies = slices.DeleteFunc(slices.Clone(r.Policies), func(id policies.PolicyID) bool { return id == gone })
	}
}

// machineActions are some of the catalogue, and some that only custom policies
// have.
var machineActions = []policies.ActionName{
	"environment.control.GetEnvInfo", "environment.control.StartEnv", "environment.group.CreateGroup", "x", "acme.ci.Promote",
}

// questions are all pairs of subject and resource that there are or were, each
// with one action.
func (m *machine) questions() []policiestest.Question {
	subjects := append(slices.Sorted(maps.Keys(m.docs)), "new-0", "nobody")
	var all []policies.Resource
	for _, d := range m.documents() {
		all = append(all, m.resources(&d)...)
	}
	all = append(all, policies.Resource{Type: "environment", ID: "e-0"}, policies.Resource{Type: "group", ID: "g-0"},
		policies.Resource{Type: "account", ID: "nobody"}, policies.Resource{Type: "planet", ID: "e-0"})
	var questions []policiestest.Question
	for _, s := range subjects {
		for _, r := range all {
			questions = append(questions, policiestest.Question{
				SubjectType: "account", Subject: string(s), Action: string(one(m.dice, machineActions)),
				ResourceType: string(r.Type), ResourceID: r.ID,
			}.With(m.dice))
		}
	}
	return questions
}

// plainRego is data.usher.authz.decision on OPA's own store with what a bundle of
// s holds.
func plainRego(tb testing.TB, s *State) func(q Question, now time.Time) Decision {
	tb.Helper()
	query, err := oparego.New(oparego.Compiler(plainCompiler(tb, s.policy)),
		oparego.Store(inmem.NewFromObjectWithOpts(bundleData(tb, s), inmem.OptReturnASTValuesOnRead(true))),
		oparego.Query("[data.usher.authz.decision, [data.usher.authz.guardrails]]"),
		oparego.GenerateJSON(func(x *ast.Term, _ *oparego.EvalContext) (any, error) { return x.Value, nil }),
	).PrepareForEval(context.Background())
	require.NoError(tb, err)
	return func(q Question, now time.Time) Decision {
		input, err := wholeRequest(&q)
		require.NoError(tb, err)
		results, err := query.Eval(context.Background(), oparego.EvalParsedInput(input), oparego.EvalTime(now))
		require.NoError(tb, err)
		require.Len(tb, results, 1)
		value, ok := results[0].Expressions[0].Value.(ast.Value)
		require.True(tb, ok)
		d, err := readAnswer(value)
		require.NoError(tb, err)
		return d
	}
}

// bundleData are the data of the bundle of s, as OPA reads it.
func bundleData(tb testing.TB, s *State) map[string]any {
	tb.Helper()
	var packed bytes.Buffer
	require.NoError(tb, policies.WriteBundle(&packed, s.PlatformData()))
	unpacked, err := bundle.NewReader(&packed).Read()
	require.NoError(tb, err)
	return unpacked.Data
}

func plainCompiler(tb testing.TB, p *Policy) *ast.Compiler {
	tb.Helper()
	c, _, err := compile(p.Source().Modules)
	require.NoError(tb, err)
	return c
}
