package admin_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hush stands in the name, id or address of everything that the callers of TestHush
// may not see.
const hush = "hush"

// hushWorld is an account of which mia has one environment, by one role with one
// policy of the account, and another account of which it has nothing.
func hushWorld(t *testing.T) (p *platform, mia, other string) {
	t.Helper()
	p, _ = startWithProvider(t)
	for _, id := range []string{"own", "mia", "eve", "hush-ann", "hush-own"} {
		p.account(id)
	}
	for _, owner := range []string{"own", "hush-own"} {
		in := "/v1/accounts/" + owner
		id := func(s string) string { return s + map[string]string{"hush-own": "-2"}[owner] }
		p.do("PUT", in+"/groups/"+id("hush-top"), m{"name": "hush top"}).want(201)
		p.do("PUT", in+"/groups/"+id("hush-g"), m{"name": "hush group", "parent": id("hush-top")}).want(201)
		p.do("PUT", in+"/environments/"+id("hush-e"), m{"name": "hush environment", "groups": []string{id("hush-g")}}).want(201)
		for _, policy := range []string{"hush-policy", "press"} {
			p.do("POST", in+"/policies", m{"id": policy, "name": policy, "resources": []string{"environment"}, "actions": []string{policy + ".Do"}}).want(201)
		}
		p.do("POST", in+"/roles", m{"id": "hush-role", "name": "hush role", "policies": []string{"hush-policy", "press"}}).want(201)
		p.do("POST", in+"/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view, "press"}}).want(201)
	}
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e", "groups": []string{"hush-g"}}).want(201)
	mia = p.member("own", "mia", grant("environment", "e", "viewer"))
	ann := grant("group", "hush-top", "hush-role")
	other = p.do("POST", "/v1/accounts/own/members", m{"email": "hush-ann@example.com", "display_name": "hush Ann", "grants": []any{ann}}).want(201).text("id")
	p.do("POST", "/v1/collaborations/"+other+"/accept", nil, as("hush-ann")).want(200)
	return p, mia, other
}

// TestHush: whatever a member or a stranger asks for, by ids that are none of its own
// too, no answer names anything that it may not see.
func TestHush(t *testing.T) {
	t.Parallel()
	p, mia, other := hushWorld(t)
	operations := p.operations()
	slices.SortFunc(operations, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	bodies := []any{
		m{}, m{"roles": []string{"viewer"}}, m{"roles": []string{"hush-role"}}, m{"email": "hush-ann@example.com", "grants": []any{grant("environment", "e", "viewer")}},
		m{"email": "hush-ann@example.com"}, m{"name": "e", "groups": []string{}}, m{"name": "hush group"}, m{"display_name": "x"}, m{"name": "Viewer", "policies": []string{}},
	}
	asked := 0
	for _, writes := range []bool{false, true} {
		for _, o := range operations {
			if writes != (o.method != "GET") || o.stream || o.open() || o.id == "leave-collaboration" {
				continue
			}
			sent := []any{nil}
			if o.body {
				sent = bodies
			}
			for _, caller := range []string{"mia", "eve"} {
				for _, url := range []string{
					o.urlWith("{account}", "own", "{member}", mia, "{collaboration}", mia, "{role}", "viewer", "{policy}", "press", "{group}", "hush-g", "{environment}", "e"),
					o.urlWith("{account}", "own", "{member}", other, "{collaboration}", other, "{role}", "hush-role", "{policy}", "hush-policy",
						"{group}", "hush-top", "{environment}", "hush-e", "{id}", "hush-e"),
					o.urlWith("{account}", "hush-own", "{member}", other, "{collaboration}", other, "{role}", "hush-role", "{policy}", "hush-policy",
						"{group}", "hush-top-2", "{environment}", "hush-e-2", "{id}", "hush-e-2"),
				} {
					for _, body := range sent {
						a := p.do(o.method, url, body, as(caller))
						require.Less(t, a.status, 500, "%s as %s: %s", a.what, caller, a.body)
						require.NotContains(t, unsaid(a, body), hush, "%s as %s", a.what, caller)
						asked++
					}
				}
			}
		}
	}
	require.Greater(t, asked, 500)
}

// unsaid is an answer without the words of its own request.
func unsaid(a answer, body any) string {
	words := []string{"hush-ann@example.com", "hush-e-2", "hush-top-2", "hush-own", "hush-e", "hush-top", "hush-g", "hush-role", "hush-policy", "hush group"}
	text := string(a.body)
	for _, word := range words {
		if strings.Contains(a.what, word) || body != nil && contains(body, word) {
			text = strings.ReplaceAll(text, `"`+word+`"`, "")
			text = strings.ReplaceAll(text, `\"`+word+`\"`, "")
			text = strings.ReplaceAll(text, `environment:`+word, "")
		}
	}
	return text
}

// contains tells whether a body has a word in it.
func contains(body any, word string) bool {
	switch v := body.(type) {
	case string:
		return v == word
	case []string:
		return slices.Contains(v, word)
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return contains(x, word) })
	case map[string]any:
		for _, x := range v {
			if contains(x, word) {
				return true
			}
		}
	}
	return false
}

// TestWhatMembersSee: roles, policies, groups and environments as far as they are
// shared.
func TestWhatMembersSee(t *testing.T) {
	t.Parallel()
	p, mia, other := hushWorld(t)
	who := as("mia")
	ids := func(path string) (all []string) {
		a := p.do("GET", inOwn+path, nil, who).want(200)
		for _, item := range a.get("items").([]any) {
			all = append(all, item.(map[string]any)["id"].(string))
		}
		return all
	}
	require.Equal(t, []string{"viewer"}, ids("/roles"))
	require.Contains(t, ids("/policies?limit=1000"), "press")
	require.NotContains(t, ids("/policies?limit=1000"), "hush-policy")
	require.Empty(t, ids("/groups"))
	require.Equal(t, []string{"e"}, ids("/environments"))
	p.do("GET", inOwn+"/roles/viewer", nil, who).want(200)
	p.do("GET", inOwn+"/roles/hush-role", nil, who).want(404)
	p.do("GET", inOwn+"/policies/press", nil, who).want(200)
	p.do("GET", inOwn+"/policies/hush-policy", nil, who).want(404)
	p.do("GET", inOwn+"/groups/hush-g", nil, who).want(404)
	require.Empty(t, p.do("GET", inOwn+"/environments/e", nil, who).want(200).get("groups"))
	for _, list := range []string{"/roles", "/policies", "/groups", "/environments", "/members"} {
		p.do("GET", inOwn+list, nil, as("eve")).want(404)
	}

	// A member alone pages as a list of one.
	p.do("POST", inOwn+"/members", m{"email": "a@example.com", "display_name": "zz"}).want(201)
	for _, sort := range []string{"name", "-name", "email", "-email", "status", "-status", "last_changed", "-last_changed"} {
		found, cursor := 0, ""
		for {
			page := p.do("GET", inOwn+"/members?limit=1&sort="+sort+cursor, nil).want(200)
			if next := page.get("next_cursor"); next != nil {
				cursor = "&cursor=" + page.text("next_cursor")
				before := page.text("items.0.id") == mia
				alone := p.do("GET", inOwn+"/members?limit=1&sort="+sort+cursor, nil, who).want(200)
				require.Nil(t, alone.get("next_cursor"))
				if found += alone.len("items"); before {
					require.Zero(t, alone.len("items"), sort)
				}
				continue
			}
			break
		}
		p.do("GET", inOwn+"/members?cursor=x", nil, who).want(400)
		require.Less(t, found, 3, sort)
	}

	// The right to see it shows the rest: on the group above, all roles, and its name.
	p.do("POST", inOwn+"/roles", m{"id": "boss", "name": "Boss", "policies": []string{"env-group.view", "account.collaboration"}}).want(201)
	p.do("PUT", inOwn+"/members/"+mia+"/grants/environment/e", m{"roles": []string{"boss", "viewer"}}).want(200)
	collaborators := p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, who).want(200)
	require.Equal(t, 2, collaborators.len("items"))
	require.Equal(t, []any{"hush role"}, collaborators.get("items.1.levels.shared_env_groups.0.roles"))
	require.NotContains(t, string(collaborators.body), "hush-top")
	require.NotContains(t, string(collaborators.body), "hush-g")
	why := string(p.do("GET", inOwn+"/members/"+other+"/permissions?type=environment&id=e", nil, who).want(200).body)
	require.NotContains(t, why, "hush-top")
	require.NotContains(t, why, "hush-g")
	require.Equal(t, []string{"boss", "hush-role", "viewer"}, ids("/roles"))
	p.do("PUT", inOwn+"/members/"+mia+"/grants/group/hush-g", m{"roles": []string{"boss"}}).want(201)
	require.Equal(t, []string{"hush-g"}, ids("/groups"))
	require.Nil(t, p.do("GET", inOwn+"/groups/hush-g", nil, who).want(200).get("parent"))
	require.Equal(t, []string{"e", "hush-e"}, ids("/environments"))
	require.Equal(t, []any{"hush-g"}, p.do("GET", inOwn+"/environments/hush-e", nil, who).want(200).get("groups"))
	collaborators = p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, who).want(200)
	require.Contains(t, string(collaborators.body), "hush-g")
	require.NotContains(t, string(collaborators.body), "hush-top")
}

// TestHiddenStays: what a member does not see, a write by it does not mean.
func TestHiddenStays(t *testing.T) {
	t.Parallel()
	p, mia, _ := hushWorld(t)
	p.do("POST", inOwn+"/roles", m{"id": "placer", "name": "Placer", "policies": []string{view, "press", "env-group.view", "env-group.manage", "env-group.assign"}}).want(201)
	p.do("PUT", inOwn+"/groups/seen", m{"name": "Seen"}).want(201)
	p.do("PUT", inOwn+"/members/"+mia+"/grants/environment/e", m{"roles": []string{"placer"}}).want(200)
	p.do("PUT", inOwn+"/members/"+mia+"/grants/group/seen", m{"roles": []string{"placer"}}).want(201)
	put := p.do("PUT", inOwn+"/environments/e", m{"name": "e", "groups": []string{"seen"}}, as("mia")).want(200)
	require.Equal(t, []any{"seen"}, put.get("groups"))
	require.Equal(t, []any{"hush-g", "seen"}, p.do("GET", inOwn+"/environments/e", nil).want(200).get("groups"))

	p.do("PUT", inOwn+"/members/"+mia+"/grants/group/hush-g", m{"roles": []string{"placer"}}).want(201)
	renamed := p.do("PUT", inOwn+"/groups/hush-g", m{"name": "renamed"}, as("mia")).want(200)
	require.Nil(t, renamed.get("parent"))
	require.Equal(t, "hush-top", p.do("GET", inOwn+"/groups/hush-g", nil).want(200).text("parent"))
}
