package admin_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// attacker is a manager of the environment e, mgr, who tries to gain anything for
// itself or for its accomplice, ann, in a random account.
type attacker struct {
	*platform
	policiestest.Dice

	ids map[string]string // collaborations by account
	doc policies.Document // as it is
}

const (
	own     = policies.AccountID("own")
	manager = policies.AccountID("mgr")
)

func pick[T any](d policiestest.Dice, list ...T) T { return list[d.Roll(len(list))] }

// escalationRoles have actions in common, so that something may be given.
var escalationRoles = map[policies.RoleID][]policies.PolicyID{
	"viewer": {view}, "starter": {view, "environment.start"}, "manager": {view, "account.collaboration"},
	"grouper": {view, "env-group.view", "env-group.manage", "env-group.assign", "account.collaboration"}, "members": {"account.members"}, "custom": {"acme"},
}

// world is an account in which the manager has its environment, and by chance more.
func (a *attacker) world() policies.Document {
	doc := policies.Document{
		Account:  policies.Account{ID: own, Email: "own@example.com", DisplayName: "OWN"},
		Policies: []policies.Policy{{ID: "acme", Name: "acme", Resources: policies.ResourceTypes, Actions: []policies.ActionName{"acme.Do"}}},
	}
	for _, id := range slices.Sorted(maps.Keys(escalationRoles)) {
		doc.Roles = append(doc.Roles, policies.Role{ID: id, Name: strings.ToUpper(string(id)), Policies: escalationRoles[id]})
	}
	for i, parent := range []*policies.GroupID{nil, new(policies.GroupID("g0")), nil} {
		id := policies.GroupID(fmt.Sprint("g", i))
		doc.Groups = append(doc.Groups, policies.Group{ID: id, Name: string(id), Parent: parent, Color: policies.DefaultColor})
	}
	for _, id := range []policies.EnvironmentID{"e", "secret"} {
		doc.Environments = append(doc.Environments, policies.Environment{ID: id, Name: string(id), Groups: []policies.GroupID{pick[policies.GroupID](a, "g0", "g1", "g2")}})
	}
	for _, id := range []policies.AccountID{manager, "ann", "bob"} {
		m := policies.DocumentMember{
			Account: policies.DocumentAccount{ID: &id, Email: string(id) + "@example.com", DisplayName: strings.ToUpper(string(id))}, Status: policies.StatusActive,
		}
		if id == "bob" {
			m.Status = pick(a, policies.StatusPending, policies.StatusSuspended, policies.StatusLeft)
		}
		for _, r := range a.resources() {
			r := policies.Resource{Type: policies.ResourceType(r[0]), ID: r[1]}
			switch {
			case id == manager && r.ID == "e":
				m.Grants = append(m.Grants, policies.Grant{Resource: r, Roles: []policies.RoleID{"manager"}})
			case a.Roll(4) == 0:
				g := policies.Grant{Resource: r, Roles: []policies.RoleID{policies.RoleID(a.role())}}
				if id == manager {
					g.Roles = []policies.RoleID{pick[policies.RoleID](a, "grouper", "members")}
				}
				if a.Roll(3) == 0 {
					g.ExpiresAt = new(time.Now().Add(time.Duration(1+a.Roll(3)) * time.Hour).Truncate(time.Second))
				}
				m.Grants = append(m.Grants, g)
			}
		}
		doc.Members = append(doc.Members, m)
	}
	return doc
}

func (*attacker) resources() [][2]string {
	return [][2]string{
		{"environment", "e"}, {"environment", "secret"}, {"group", "g0"}, {"group", "g1"}, {"group", "g2"},
		{"environments", string(own)}, {"groups", string(own)}, {"account", string(own)},
	}
}

// role is any, and most often one of those that the manager has.
func (a *attacker) role() string {
	return string(pick(a, append(slices.Sorted(maps.Keys(escalationRoles)), "viewer", "viewer", "manager", "manager")...))
}

// kept are the grants that ann has, but for that on e.
func (a *attacker) kept() []any {
	list := []any{}
	for _, member := range a.doc.Members {
		for _, g := range member.Grants {
			if member.Account.ID == nil || *member.Account.ID != "ann" || g.Resource.ID == "e" {
				continue
			}
			one := m{"resource": g.Resource, "roles": g.Roles}
			if g.ExpiresAt != nil {
				one["expires_at"] = policies.FormatTime(*g.ExpiresAt)
			}
			list = append(list, one)
		}
	}
	return list
}

// body is a random body of every field that the operation could have.
func (a *attacker) body(id string) any {
	roles := func() []string {
		some := []string{a.role()}
		if a.Roll(3) == 0 {
			some = append(some, a.role())
		}
		return slices.Compact(slices.Sorted(slices.Values(some)))
	}
	ending := func(body m) m {
		if a.Roll(2) == 0 {
			body["expires_at"] = time.Now().Add(time.Duration(1+a.Roll(4)) * time.Hour).UTC().Format(time.RFC3339)
		}
		return body
	}
	grants := func() []any {
		list := []any{}
		for _, r := range a.resources() {
			if a.Roll(4) == 0 {
				list = append(list, ending(grant(r[0], r[1], roles()...)))
			}
		}
		return list
	}
	email := pick(a, "ann", "bob", "mgr", "eve", "stranger") + "@example.com"
	some := []string{view, "environment.start", "acme", "account.members"}[a.Roll(3):]
	switch id {
	case "put-grant", "put-collaborator":
		return ending(m{"roles": roles()})
	case "set-grants":
		return m{"grants": pick(a, grants(), append(a.kept(), ending(grant("environment", "e", roles()...))))}
	case "invite-member":
		return pick(a, m{"email": email, "grants": grants()}, m{"email": email, "grants": []any{ending(grant("environment", "e", roles()...))}}, m{"email": email})
	case "copy-member":
		return m{"email": email}
	case "update-member", "update-collaboration":
		return m{"display_name": pick(a, "x", "y")}
	case "put-group":
		return m{"name": pick(a, "g0", "g1", "g2", "new"), "parent": pick[any](a, nil, "g0", "g1", "g2", "g9"), "color": "#000000"}
	case "put-environment":
		return m{"name": pick(a, "e", "secret"), "groups": pick(a, []string{}, []string{"g0"}, []string{"g1", "g2"}, []string{"g0", "g2"})}
	case "transfer-environment":
		return m{"to": pick(a, "mgr", "ann", "eve")}
	case "copy-role":
		return m{"name": pick(a, "VIEWER", "new")}
	case "create-role", "update-role":
		return m{"name": pick(a, "VIEWER", "CUSTOM", "new"), "policies": some}
	case "create-policy", "update-policy":
		return m{"name": pick(a, "acme", "new"), "resources": []string{"environment"}, "actions": []string{pick(a, "acme.Do", "x.y", viewAction)}}
	case "put-account":
		return m{"email": email}
	case "import":
		return []any{m{"account": m{"id": "own", "email": "own@example.com"}}}
	default:
		return nil
	}
}

// try makes one write of the document as the manager.
func (a *attacker) try(o operation) answer {
	a.t.Helper()
	r := pick(a, append(a.resources(), [2]string{"environment", "e"}, [2]string{"environment", "e"}, [2]string{"environment", "e"})...)
	path := o.urlWith(
		"{member}", pick(a, append(slices.Sorted(maps.Values(a.ids)), a.ids["ann"], a.ids["ann"])...), "{collaboration}", pick(a, a.ids["ann"], a.ids["bob"]), "{group}", pick(a, "g0", "g1", "g2", "g9"),
		"{environment}", pick(a, "e", "secret", "e9"), "{policy}", pick(a, "acme", view), "{role}", url.PathEscape(a.role()), "{type}", r[0], "{id}", r[1],
	)
	if strings.HasPrefix(o.id, "delete") && a.Roll(3) == 0 {
		path += "?force=" + pick(a, "true", "false")
		if o.id != "delete-role" && o.id != "delete-policy" {
			path, _, _ = strings.Cut(path, "?")
		}
	}
	return a.do(o.method, path, a.body(o.id), as(string(manager)))
}

func (a *attacker) export() policies.Document {
	a.t.Helper()
	doc, err := policies.DecodeDocument(a.do("GET", inOwn+"/export", nil).want(200).body)
	require.NoError(a.t, err)
	return doc.Normalize()
}

// held is what an account may do, on each resource, as the check API says.
func (a *attacker) held(account string, at policies.Revision) map[string]bool {
	a.t.Helper()
	all := map[string]bool{}
	for _, r := range a.resources() {
		found := a.do("POST", "/access/v1/search/action", m{
			"subject": m{"type": "account", "id": account}, "resource": m{"type": r[0], "id": r[1]}, "context": m{"min_revision": uint64(at)},
		}).want(200)
		var list struct {
			Results []struct {
				Name string `json:"name"`
			} `json:"results"`
		}
		require.NoError(a.t, json.Unmarshal(found.body, &list))
		for _, x := range list.Results {
			all[r[0]+":"+r[1]+" "+x.Name] = true
		}
	}
	return all
}

// attack makes writes in a new world, and holds each that is accepted against the
// no-gain rule: by the documents before and after, and by what the check API allows.
func (a *attacker) attack(operations []operation) (accepted map[string]int) {
	a.t.Helper()
	world, err := policies.MarshalDocument(a.world())
	require.NoError(a.t, err)
	a.do("POST", "/v1/import", world).want(200)
	a.ids = a.memberIDs(string(own))
	inForce, err := policiestest.PolicyInForce()
	require.NoError(a.t, err)
	model := policiestest.Model{Catalogue: inForce.Catalogue}
	a.doc, accepted = a.export(), map[string]int{}
	mine, accomplices := a.held(string(manager), 0), a.held("ann", 0)
	for _, o := range operations {
		answer := a.try(o)
		require.Less(a.t, answer.status, 500, "%s: %s", answer.what, answer.body)
		if answer.status >= 300 {
			continue
		}
		accepted[o.id]++
		after := a.export()
		require.Empty(a.t, model.NoGain(a.doc, after, manager, time.Now(), o.id == "remove-member"), "%s as the manager", answer.what)
		now, accomplicesNow := a.held(string(manager), answer.revision()), a.held("ann", answer.revision())
		for what := range now { // less it may have: of a group that it deleted
			require.True(a.t, mine[what] || strings.Contains(what, ":g9 "), "%s: %s is more than the manager had", answer.what, what)
		}
		for what := range accomplicesNow {
			require.True(a.t, accomplices[what] || mine[what] || strings.Contains(what, ":g9 "), "%s: %s is more than the manager had", answer.what, what)
		}
		a.doc, mine, accomplices = after, now, accomplicesNow
		a.ids = a.memberIDs(string(own))
	}
	return accepted
}

// TestEscalation: a manager of one environment tries every write of the document with
// random bodies for itself and for an accomplice, and nobody holds more than before
// but by what the manager holds.
func TestEscalation(t *testing.T) {
	t.Parallel()
	const worlds, again = 6, 6
	p, _ := startWithProvider(t)
	for _, id := range []string{"own", "mgr", "ann", "bob", "eve"} {
		p.account(id)
	}
	var writes, fertile []operation
	for _, o := range p.operations() {
		if o.method == "GET" || o.open() || strings.HasSuffix(o.id, "-guardrails") { // the platform's; refused to accounts in TestGuardrails
			continue
		}
		require.True(t, !o.body || (&attacker{Dice: policiestest.SeededDice(0)}).body(o.id) != nil, "%s has no bodies here", o.id)
		writes = append(writes, o)
		if slices.Contains([]string{"put-grant", "put-collaborator", "delete-grant", "invite-member", "set-grants", "put-environment", "put-group", "copy-member"}, o.id) {
			fertile = append(fertile, o)
		}
	}
	slices.SortFunc(writes, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	slices.SortFunc(fertile, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	accepted := map[string]int{}
	for seed := range uint64(worlds) {
		a := &attacker{platform: p, Dice: policiestest.SeededDice(seed)}
		attempts := slices.Clone(writes)
		for range again {
			attempts = append(attempts, fertile...)
		}
		for i := range attempts { // in any order
			j := i + a.Roll(len(attempts)-i)
			attempts[i], attempts[j] = attempts[j], attempts[i]
		}
		for id, n := range a.attack(attempts) {
			accepted[id] += n
		}
	}
	t.Log(accepted)
	for _, id := range []string{"put-grant", "delete-grant", "put-collaborator", "invite-member"} {
		require.NotZero(t, accepted[id], "%s was never accepted, so nothing was held against the rule", id)
	}
}
