package authz

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest/rapiddice"
)

// A change that contradicts itself or the state is refused, and the state in
// force stays as it was.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	e := newTestEngine(t, Options{})
	objects := append(company(t, p, nil), objectsOf(t, p, []policies.Document{{
		Account: policies.Account{ID: "other"}, Groups: []policies.Group{{ID: "theirs"}},
		Environments: []policies.Environment{{ID: "their-app"}}, Roles: []policies.Role{{ID: "their-role", Name: "R"}},
	}})[1:]...)
	token := func(id string) policies.Object {
		return object(t, policies.KindToken, "", id, policies.TokenBody{Hash: "h"})
	}
	require.NoError(t, e.Reset(buildState(t, p, testHeader(4), append(objects, token("t1")))))
	grant := func(member policies.CollaborationID, r policies.Resource, roles ...policies.RoleID) policies.Object {
		return object(t, policies.KindGrant, "owner", policies.GrantKey{Member: member, Resource: r}.String(), policies.GrantBody{Roles: roles})
	}
	mia, maxs := memberID("owner", "mia"), memberID("owner", "max")
	group := func(owner policies.AccountID, id, parent string) policies.Object {
		b := policies.GroupBody{}
		if parent != "" {
			b.Parent = new(policies.GroupID(parent))
		}
		return object(t, policies.KindGroup, owner, id, b)
	}
	environment := func(owner policies.AccountID, id string, groups ...policies.GroupID) policies.Object {
		return object(t, policies.KindEnvironment, owner, id, policies.EnvironmentBody{Groups: groups})
	}
	member := func(id policies.CollaborationID, account policies.AccountID) policies.Object {
		return object(t, policies.KindMember, "owner", string(id), policies.MemberBody{Account: &account, Status: "active"})
	}
	gone := func(kind policies.Kind, owner policies.AccountID, id string) policies.Object {
		return object(t, kind, owner, id, nil)
	}
	torn := environment("owner", "app")
	torn.Body = []byte(`{"groups":7}`)
	for name, tt := range map[string]struct {
		objects []policies.Object
		reason  string
	}{
		"a grant of an unknown member":        {[]policies.Object{grant("nobody", environmentApp, "viewer")}, "the member does not exist"},
		"a grant of a member that goes":       {[]policies.Object{gone(policies.KindMember, "owner", string(mia)), grant(mia, environmentApp, "viewer")}, "the member does not exist"},
		"a grant on another's environment":    {[]policies.Object{grant(mia, policies.Resource{Type: "environment", ID: "their-app"}, "viewer")}, "no such resource"},
		"a grant on another's group":          {[]policies.Object{grant(mia, policies.Resource{Type: "group", ID: "theirs"}, "viewer")}, "no such resource"},
		"a grant on another's category":       {[]policies.Object{grant(mia, policies.Resource{Type: "account", ID: "other"}, "viewer")}, "no such resource"},
		"a grant on no type of ours":          {[]policies.Object{grant(mia, policies.Resource{Type: "planet", ID: "owner"}, "viewer")}, "no such resource"},
		"a grant of a role of another":        {[]policies.Object{grant(mia, environmentApp, "their-role")}, `the role "their-role" does not exist`},
		"a grant without roles":               {[]policies.Object{grant(mia, environmentApp)}, "gives no role"},
		"a grant without a key":               {[]policies.Object{object(t, policies.KindGrant, "owner", "key", policies.GrantBody{})}, "is not MEMBER/TYPE/ID"},
		"a deletion of a grant without a key": {[]policies.Object{gone(policies.KindGrant, "owner", "key")}, "is not MEMBER/TYPE/ID"},
		"an environment of another":           {[]policies.Object{environment("owner", "their-app")}, `belongs to "other"`},
		"an environment for two":              {[]policies.Object{environment("owner", "new"), environment("other", "new")}, "belongs to"},
		"a group of another":                  {[]policies.Object{group("owner", "theirs", "")}, `belongs to "other"`},
		"an environment in another's group":   {[]policies.Object{environment("owner", "app", "theirs")}, `the group "theirs" does not exist`},
		"an environment in a group that goes": {[]policies.Object{gone(policies.KindGroup, "owner", "team"), environment("owner", "app", "team")}, `the group "team" does not exist`},
		"a group below another's":             {[]policies.Object{group("owner", "squad", "theirs")}, `the parent "theirs" does not exist`},
		"a group below itself":                {[]policies.Object{group("owner", "squad", "squad")}, "stands below itself"},
		"groups in a circle":                  {[]policies.Object{group("owner", "team", "squad")}, "stands below itself"},
		"a new circle and a group below it":   {[]policies.Object{group("owner", "a", "b"), group("owner", "b", "c"), group("owner", "c", "b")}, "stands below itself"},
		"an account's second record":          {[]policies.Object{member("m2", "mia")}, `is of account "mia", which has the record`},
		"a member who is nobody":              {[]policies.Object{member(mia, "nobody")}, `is of account "nobody", which does not exist`},
		"a member whose account goes":         {[]policies.Object{gone(policies.KindAccount, "", "other"), member(maxs, "other")}, `is of account "other", which does not exist`},
		"something of an unknown owner":       {[]policies.Object{environment("nobody", "e")}, "the owner does not exist"},
		"something of an owner that goes":     {[]policies.Object{gone(policies.KindAccount, "", "other"), environment("other", "e")}, "the owner does not exist"},
		"an account without an id":            {[]policies.Object{object(t, policies.KindAccount, "", "", policies.AccountBody{})}, "has no id"},
		"one object twice":                    {[]policies.Object{environment("owner", "app"), environment("owner", "app")}, "stands twice in one change"},
		"one object, there and gone":          {[]policies.Object{environment("owner", "app"), gone(policies.KindEnvironment, "owner", "app")}, "stands twice in one change"},
		"two tokens of one hash":              {[]policies.Object{token("t2")}, `has the hash of token "t1"`},
		"the end of the policy in force":      {[]policies.Object{gone(policies.KindPolicyInForce, "", "policy_in_force")}, "cannot be deleted"},
		"a kind that is not known":            {[]policies.Object{object(t, "guardrail", "owner", "g", policies.AccountBody{})}, "kind that is not known here"},
		"the end of a kind that is not known": {[]policies.Object{gone("guardrail", "owner", "g")}, "kind that is not known here"},
		"a body that is none":                 {[]policies.Object{torn}, "cannot be read"},
		"something right and something wrong": {[]policies.Object{grant(maxs, environmentApp, "viewer"), grant(mia, environmentApp, "none")}, `the role "none" does not exist`},
	} {
		before := e.State()
		err := e.Apply(context.Background(), changeAfter(t, before, tt.objects...))
		var contradiction *ObjectError
		require.ErrorAs(t, err, &contradiction, name)
		require.ErrorContains(t, err, tt.reason, name)
		require.Same(t, before, e.State(), name)
	}
	require.Empty(t, diff(collect(t, buildState(t, p, testHeader(4), append(objects, token("t1")))), collect(t, e.State())))
	require.Equal(t, policies.ReasonNotShared, check(t, e, mayOn("mia", actionView, "db")).Reason)
}

func diff(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(b), func(s string) bool { return slices.Contains(a, s) })
}

func TestApplyHoldsTheChain(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	s := e.State()
	good := grantChange(t, s, "starter")
	apply := func(edit func(*policies.Change)) error {
		c := good
		edit(&c)
		return e.Apply(context.Background(), c)
	}
	require.ErrorContains(t, apply(func(c *policies.Change) { c.Revision = 3 }), "does not follow")
	require.ErrorContains(t, apply(func(c *policies.Change) { c.Hash[0]++ }), "something was changed or left out")
	require.ErrorContains(t, apply(func(c *policies.Change) { c.AuditHash[0]++ }), "something was changed or left out")
	require.ErrorContains(t, apply(func(c *policies.Change) { c.Objects = []byte(`[]`) }), "something was changed or left out")
	var back *RollbackError
	require.ErrorAs(t, apply(func(c *policies.Change) { c.Revision = 1 }), &back)
	broken := good
	broken.Objects = []byte(`[{`)
	broken.Hash = policies.ChainHash(s.Hash(), 2, sha256.Sum256(broken.Objects), broken.AuditHash)
	require.ErrorContains(t, e.Apply(context.Background(), broken), "decode the objects of revision 2")
	require.Same(t, s, e.State())

	require.NoError(t, e.Apply(context.Background(), good))
	require.ErrorAs(t, e.Apply(context.Background(), good), &back) // the same again
	// A later epoch may follow; an earlier one may not.
	next := changeAt(t, e.State(), policies.NewRevision(1, 0), object(t, policies.KindAccount, "", "new", policies.AccountBody{}))
	require.NoError(t, e.Apply(context.Background(), next))
	late := changeAt(t, e.State(), 3)
	require.ErrorAs(t, e.Apply(context.Background(), late), &back)
}

// A policy in force that does not compile, or reaches out, stays out of force.
func TestApplyRefusesBadPolicies(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	before := e.State()
	for source, reason := range map[string]string{
		"package usher.authz\nallow := nonsense(":                                                           "compile the policy in force",
		"package usher.authz\neffective := http.send({\"method\": \"get\", \"url\": \"http://localhost\"})": "undefined function http.send",
		"package usher.authz\neffective := opa.runtime()":                                                   "undefined function opa.runtime",
		"package usher.authz\neffective := rand.intn(\"x\", 2)":                                             "undefined function rand.intn",
		"package usher.authz\neffective := net.lookup_ip_addr(\"localhost\")":                               "undefined function net.lookup_ip_addr",
	} {
		bad, err := policies.NewPolicyInForce(before.Policy().Source().Catalogue, map[string]string{"usher/authz/x.rego": source})
		require.NoError(t, err)
		o := object(t, policies.KindPolicyInForce, "", "policy_in_force", bad)
		require.ErrorContains(t, e.Apply(context.Background(), changeAfter(t, before, o)), reason)
	}
	forged := *before.Policy().Source()
	forged.Digest[0]++
	o := object(t, policies.KindPolicyInForce, "", "policy_in_force", forged)
	require.ErrorContains(t, e.Apply(context.Background(), changeAfter(t, before, o)), "has digest")
	require.Same(t, before, e.State())
}

// An evaluation that fails, or gives what is no answer, is an error: never an
// allow, never cached.
func TestFailedEvaluations(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	for name, source := range map[string]string{
		"undefined":       `effective := 1 if false`,
		"no object":       `effective := true`,
		"no reason":       `effective := {"owner": "owner"}`,
		"two answers":     `effective := {"reason": "owner", "level": "direct"}`,
		"a wrong type":    `effective := {"reason": 1}`,
		"roles of wrong":  `effective := {"level": "direct", "roles": [1]}`,
		"wrong policies":  `effective := {"level": "direct", "policies": {"p": 1}}`,
		"wrong time":      `effective := {"level": "direct", "valid_until": "tomorrow"}`,
		"builtin error":   `effective := {"reason": time.format("x")}`,
		"walks accounts":  `effective := {"reason": "owner"} if some a in data.usher.accounts`,
		"walks subjects":  `effective := {"reason": "owner"} if some s, _ in data.usher.subjects`,
		"walks owners":    `effective := {"reason": "owner"} if some o, _ in data.usher.owners.environment`,
		"reads all":       `effective := {"reason": "owner"} if count(data.usher) > 0`,
		"division by nil": `effective := {"reason": "owner", "x": 1 / (input.subject.id == "mia")}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			odd, err := policies.NewPolicyInForce(p.Source().Catalogue, map[string]string{"usher/authz/x.rego": "package usher.authz\n" + source})
			require.NoError(t, err)
			compiled, err := NewPolicy(context.Background(), odd)
			if err != nil {
				return // refused by the compiler already
			}
			e := newTestEngine(t, Options{})
			require.NoError(t, e.Reset(buildState(t, compiled, testHeader(1), company(t, compiled, nil))))
			for range 2 {
				d, err := e.Check(context.Background(), 0, mayOn("mia", actionView, "app"))
				require.Error(t, err)
				require.False(t, d.Allow)
				_, err = e.Decide(context.Background(), 0, []Question{mayOn("mia", actionView, "app")})
				require.Error(t, err)
			}
			require.Zero(t, e.cache.len())
		})
	}
}

// The order of objects in a change and in a snapshot means nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	rapid.Check(t, func(rt *rapid.T) {
		d := rapiddice.New(rt)
		m := newMachine(t, d, p)
		before := m.objects()
		shuffled := slices.Clone(before)
		shuffle(d, shuffled)
		s := buildState(t, p, testHeader(1), before)
		require.Equal(t, collect(t, s), collect(t, buildState(t, p, testHeader(1), shuffled)))
		objects := m.change()
		objects = append(objects, m.change()...)
		objects = lastOfEach(objects)
		var want []string
		for range 4 {
			shuffle(d, objects)
			next, err := s.Apply(context.Background(), changeAfter(t, s, objects...))
			require.NoError(t, err)
			got := collect(t, next)
			if want == nil {
				want = got
			}
			require.Equal(t, want, got)
		}
		require.Equal(t, want, collect(t, buildState(t, p, testHeader(2), m.objects())))
	})
}

func lastOfEach(objects []policies.Object) []policies.Object {
	var kept []policies.Object
	for i, o := range objects {
		again := func(x policies.Object) bool { return x.Kind == o.Kind && x.Owner == o.Owner && x.ID == o.ID }
		if !slices.ContainsFunc(objects[i+1:], again) {
			kept = append(kept, o)
		}
	}
	return kept
}

// A transfer is one change, in either order of its objects, and takes effect
// for what is cached.
func TestTransfer(t *testing.T) {
	t.Parallel()
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		e := companyEngine(t, Options{}, nil)
		require.True(t, check(t, e, mayOn("max", actionStart, "db")).Allow)
		objects := []policies.Object{
			object(t, policies.KindEnvironment, "owner", "db", nil),
			object(t, policies.KindEnvironment, "max", "db", policies.EnvironmentBody{}),
		}
		c := changeAfter(t, e.State(), objects[order[0]], objects[order[1]])
		require.NoError(t, e.Apply(context.Background(), c))
		require.Equal(t, policies.ReasonOwner, check(t, e, mayOn("max", actionStart, "db")).Reason)
		require.Equal(t, policies.ReasonNoCollaboration, check(t, e, mayOn("owner", actionStart, "db")).Reason)
		require.Equal(t, policies.AccountID("max"), check(t, e, mayOn("owner", actionStart, "db")).Owner)
	}
}

// What a change did not touch is the same in memory; Changed tells what it did.
func TestApplyShares(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	before := e.State()
	require.NoError(t, e.Apply(context.Background(), grantChange(t, before, "starter")))
	after := e.State()
	for _, id := range []policies.AccountID{"mia", "max"} {
		a, _ := before.Account(id)
		b, _ := after.Account(id)
		require.Same(t, a, b)
		require.Equal(t, policies.Revision(1), b.Changed())
	}
	a, _ := before.Account("owner")
	b, _ := after.Account("owner")
	require.Equal(t, policies.Revision(2), b.Changed())
	require.Equal(t, policies.Revision(1), a.Changed())
	require.Same(t, a.roles.tree, before.mustAccount("owner").roles.tree)
	x, _ := a.members.get(memberID("owner", "max"))
	y, _ := b.members.get(memberID("owner", "max"))
	require.Same(t, x, y)
	require.Same(t, before.Policy(), after.Policy())
}

func (s *State) mustAccount(id policies.AccountID) *Account {
	a, _ := s.accounts.get(id)
	return a
}

func TestTokens(t *testing.T) {
	t.Parallel()
	e := companyEngine(t, Options{}, nil)
	ends := testStart.Add(time.Hour)
	put := func(id, hash string) policies.Object {
		return object(t, policies.KindToken, "", id, policies.TokenBody{Hash: hash, Scopes: []policies.Scope{policies.ScopeChecks}, ExpiresAt: &ends})
	}
	apply := func(objects ...policies.Object) {
		require.NoError(t, e.Apply(context.Background(), changeAfter(t, e.State(), objects...)))
	}
	apply(put("t1", "h1"), put("t2", "h2"))
	got, ok := e.State().Token("h1")
	require.True(t, ok)
	require.Equal(t, "t1", got.ID)
	require.Equal(t, []policies.Scope{policies.ScopeChecks}, got.Scopes)
	require.True(t, ends.Equal(*got.ExpiresAt))
	apply(put("t2", "h1"), put("t1", "h2")) // swapped
	got, _ = e.State().Token("h1")
	require.Equal(t, "t2", got.ID)
	apply(object(t, policies.KindToken, "", "t2", nil))
	_, ok = e.State().Token("h1")
	require.False(t, ok)
	_, ok = e.State().Token("h2")
	require.True(t, ok)
}

func TestBuilderRefuses(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	good := company(t, p, nil)
	_, err := tryBuild(p, testHeader(1), good[1:])
	require.ErrorContains(t, err, "no policy in force")
	for name, o := range map[string]policies.Object{
		"is a deletion":                          object(t, policies.KindAccount, "", "x", nil),
		"stands twice":                           good[2],
		"kind that is not known":                 object(t, "guardrail", "", "x", policies.AccountBody{}),
		"the owner does not exist":               object(t, policies.KindRole, "nobody", "r", policies.RoleBody{}),
		"the member does not exist":              object(t, policies.KindGrant, "owner", "m/account/owner", policies.GrantBody{}),
		"is not MEMBER/TYPE/ID":                  object(t, policies.KindGrant, "owner", "m", policies.GrantBody{}),
		`the parent "none" does not exist`:       object(t, policies.KindGroup, "owner", "g", policies.GroupBody{Parent: new(policies.GroupID("none"))}),
		`the group "none" does not exist`:        object(t, policies.KindEnvironment, "owner", "e", policies.EnvironmentBody{Groups: []policies.GroupID{"none"}}),
		"gives no role":                          object(t, policies.KindGrant, "owner", string(memberID("owner", "max"))+"/account/owner", policies.GrantBody{}),
		`the role "none" does not exist`:         object(t, policies.KindGrant, "owner", string(memberID("owner", "max"))+"/account/owner", policies.GrantBody{Roles: []policies.RoleID{"none"}}),
		"the owner has no such resource":         object(t, policies.KindGrant, "owner", string(memberID("owner", "max"))+"/environment/none", policies.GrantBody{}),
		`account "nobody", which does not exist`: object(t, policies.KindMember, "owner", "m", policies.MemberBody{Account: new(policies.AccountID("nobody")), Status: policies.StatusActive}),
		`account "mia", which has the record`:    object(t, policies.KindMember, "owner", "m", policies.MemberBody{Account: new(policies.AccountID("mia")), Status: policies.StatusActive}),
		"which is not known here":                object(t, policies.KindMember, "owner", "m", policies.MemberBody{Status: "asleep"}),
	} {
		_, err := tryBuild(p, testHeader(1), append(slices.Clone(good), o))
		var contradiction *ObjectError
		require.ErrorAs(t, err, &contradiction, name)
		require.ErrorContains(t, err, name)
	}
	// What had to wait is looked at as closely, and so is a second grant on one resource.
	_, err = tryBuild(p, testHeader(1), append([]policies.Object{good[0], good[2], good[2]}, good[1:]...))
	require.ErrorContains(t, err, "stands twice")
	_, err = tryBuild(p, testHeader(1), append(slices.Clone(good), good[slices.IndexFunc(good, func(o policies.Object) bool { return o.Kind == policies.KindGrant })]))
	require.ErrorContains(t, err, "stands twice")
}

func TestBuildAccount(t *testing.T) {
	t.Parallel()
	p := embeddedPolicy(t)
	s := buildState(t, p, testHeader(3), company(t, p, nil))
	var objects []policies.Object
	for o, err := range s.AccountObjects("owner") {
		require.NoError(t, err)
		objects = append(objects, o)
	}
	a, err := BuildAccount("owner", 2, objects)
	require.NoError(t, err)
	require.Equal(t, policies.AccountID("owner"), a.ID())
	require.Equal(t, policies.Revision(2), a.Changed())
	require.Equal(t, s.mustAccount("owner").Data(), a.Data())
	_, err = BuildAccount("mia", 2, objects)
	require.ErrorContains(t, err, `does not belong to the account "mia"`)
	var missing *policies.NotFoundError
	_, err = BuildAccount("mia", 2, nil)
	require.ErrorAs(t, err, &missing)
	for range s.AccountObjects("nobody") {
		require.Fail(t, "an account that does not exist has objects")
	}
}
