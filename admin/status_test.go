package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const view = "environment.view" // a system policy, which allows:
const viewAction = "environment.control.GetEnvInfo"

type m = map[string]any

func TestAccounts(t *testing.T) {
	t.Parallel()
	p := start(t)
	made := p.do("PUT", "/v1/accounts/acme", m{"email": "Acme@Example.com", "display_name": "Acme"}).want(201)
	require.Equal(t, made.header.Get("ETag"), made.text("etag"))
	again := p.do("PUT", "/v1/accounts/acme", m{"email": "Acme@Example.com", "display_name": "Acme"}).want(200)
	require.Equal(t, made.revision(), again.revision(), "a write that changes nothing has no revision of its own")
	changed := p.do("PUT", "/v1/accounts/acme", m{"email": "acme@example.com"}).want(200)
	require.Greater(t, changed.revision(), made.revision())
	require.Empty(t, changed.text("display_name"))
	require.NotEqual(t, made.text("etag"), changed.text("etag"))

	shown := p.do("GET", "/v1/accounts/acme", nil).want(200)
	require.Equal(t, changed.text("etag"), shown.header.Get("ETag"))
	p.do("GET", "/v1/accounts/nobody", nil).want(404)
	p.do("GET", "/v1/accounts/%20", nil).want(404)
	p.do("PUT", "/v1/accounts/%20", m{"email": "a@example.com"}).want(422)
	p.do("PUT", "/v1/accounts/other", m{"email": "ACME@example.com"}).want(409)
	p.do("PUT", "/v1/accounts/other", m{"email": "none"}).want(422)
	both := p.do("PUT", "/v1/accounts/other", m{"display_name": "a\u0000"}).want(422)
	require.ElementsMatch(t, []string{"email", "display_name"}, both.fields())

	require.Equal(t, "acme", p.do("GET", "/v1/accounts?email=aCMe@example.com", nil).want(200).text("items.0.id"))
	require.Zero(t, p.do("GET", "/v1/accounts?email=x@example.com", nil).want(200).len("items"))
	require.Zero(t, p.do("GET", "/v1/accounts?email=x", nil).want(200).len("items"))
	p.do("GET", "/v1/accounts", nil).want(400)
	p.do("GET", "/v1/accounts?email=a@example.com&email=b@example.com", nil).want(400)
	p.do("GET", "/v1/accounts?email=%00", nil).want(400)
	p.do("GET", "/v1/accounts?email=%ff", nil).want(400)

	p.do("PUT", "/v1/accounts/acme", m{"email": "b@example.com"}, with("If-Match", made.text("etag"))).want(412)
	lost := p.do("PUT", "/v1/accounts/acme", m{"email": "b@example.com"}, with("If-Match", `"r0"`)).want(412)
	require.Equal(t, changed.revision(), lost.revision(), "a 412 names the present revision")
	require.Equal(t, changed.text("etag"), lost.text("etag"))
	p.do("PUT", "/v1/accounts/new", m{"email": "n@example.com"}, with("If-Match", "*")).want(412)
	p.do("PUT", "/v1/accounts/acme", m{"email": "b@example.com"}, with("If-Match", changed.text("etag"))).want(200)
	gone := p.do("DELETE", "/v1/accounts/acme", nil).want(204)
	require.Greater(t, gone.revision(), changed.revision())
	p.do("DELETE", "/v1/accounts/acme", nil).want(404)
}

func TestGroupsAndEnvironments(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("other")
	base := "/v1/accounts/own"
	p.do("PUT", base+"/groups/g1", m{"name": "Prod"}).want(201)
	made := p.do("PUT", base+"/groups/g2", m{"name": "EU", "parent": "g1", "color": "#ff0000"}).want(201)
	require.Equal(t, "g1", made.text("parent"))
	p.do("PUT", base+"/groups/g2", m{"name": "EU", "parent": "g1", "color": "#ff0000"}).want(200)
	require.Equal(t, "#808080", p.do("GET", base+"/groups/g1", nil).want(200).text("color"))
	p.do("PUT", base+"/groups/g1", m{"name": "Prod", "parent": "g2"}).want(422) // a cycle
	p.do("PUT", base+"/groups/g3", m{"name": "prod"}).want(409)                 // the sibling's name
	p.do("PUT", base+"/groups/g3", m{"name": "x", "parent": "nowhere"}).want(422)
	require.ElementsMatch(t, []string{"name", "color"}, p.do("PUT", base+"/groups/g3", m{"name": "", "color": "red"}).want(422).fields())
	p.do("PUT", "/v1/accounts/other/groups/g1", m{"name": "stolen"}).want(409)
	p.do("PUT", "/v1/accounts/nobody/groups/g9", m{"name": "x"}).want(404)
	p.do("GET", base+"/groups/nowhere", nil).want(404)
	p.do("DELETE", base+"/groups/nowhere", nil).want(404)

	p.do("PUT", base+"/environments/e1", m{"name": "App", "groups": []string{"g2", "g1"}}).want(201)
	p.do("PUT", base+"/environments/e2", m{"name": "Free"}).want(201)
	p.do("PUT", base+"/environments/e3", m{"name": "x", "groups": []string{"nowhere"}}).want(422)
	p.do("PUT", "/v1/accounts/other/environments/e1", m{"name": "stolen"}).want(409)
	require.Equal(t, []any{"g1", "g2"}, p.do("GET", base+"/environments/e1", nil).want(200).get("groups"))

	tree := p.do("GET", base+"/tree", nil).want(200)
	require.Equal(t, "g2", tree.text("groups.0.groups.0.id"))
	require.Equal(t, "e1", tree.text("groups.0.groups.0.environments.0.id"))
	require.Equal(t, "e2", tree.text("environments.0.id"))
	require.Equal(t, 1, tree.len("environments"))
	p.do("GET", "/v1/accounts/nobody/tree", nil).want(404)

	// A group that goes leaves what is in it to its parent.
	p.do("DELETE", base+"/groups/g1", nil).want(204)
	require.Nil(t, p.do("GET", base+"/groups/g2", nil).want(200).get("parent"))

	p.do("POST", base+"/environments/e1/transfer", m{"to": "nobody"}).want(422)
	p.do("POST", base+"/environments/e1/transfer", m{}).want(422)
	moved := p.do("POST", base+"/environments/e1/transfer", m{"to": "other"}).want(200)
	require.Zero(t, moved.len("groups"))
	p.do("GET", base+"/environments/e1", nil).want(404)
	p.do("GET", "/v1/accounts/other/environments/e1", nil).want(200)
	p.do("DELETE", "/v1/accounts/other/environments/e1", nil).want(204)
	p.do("DELETE", "/v1/accounts/other/environments/e1", nil).want(404)
}

func TestPoliciesAndRoles(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	base := "/v1/accounts/own"
	custom := m{"name": "Promote", "resources": []string{"environment"}, "actions": []string{"acme.Promote"}}
	made := p.do("POST", base+"/policies", custom).want(201)
	require.Equal(t, false, made.get("system"))
	id := made.text("id")
	p.do("POST", base+"/policies", m{"id": "mine", "name": "Mine", "resources": []string{}, "actions": []string{}}).want(201)
	p.do("POST", base+"/policies", m{"id": "mine", "name": "Mine", "resources": []string{}, "actions": []string{}}).want(409)
	p.do("POST", base+"/policies", m{"id": view, "name": "Mine", "resources": []string{}, "actions": []string{}}).want(409)
	require.ElementsMatch(t, []string{"name", "resources", "actions[0]"},
		p.do("POST", base+"/policies", m{"actions": []string{"a b"}}).want(422).fields())
	require.Equal(t, true, p.do("GET", base+"/policies/"+view, nil).want(200).get("system"))
	p.do("PATCH", base+"/policies/"+view, m{"name": "x"}).want(403)
	p.do("DELETE", base+"/policies/"+view, nil).want(403)
	p.do("GET", base+"/policies/nothing", nil).want(404)
	p.do("GET", "/v1/accounts/nobody/policies/"+view, nil).want(404)
	require.Equal(t, "New", p.do("PATCH", base+"/policies/"+id, m{"description": "New"}).want(200).text("description"))
	p.do("PATCH", base+"/policies/"+id, m{"resources": []string{"planet"}}).want(422)
	p.do("PATCH", base+"/policies/"+id, m{"id": "x"}).want(400)

	// The list is the system's, then the account's own, whatever the pages.
	whole := p.do("GET", base+"/policies?limit=1000", nil).want(200)
	system := p.do("GET", "/v1/policies?limit=1000", nil).want(200).len("items")
	require.Equal(t, system+2, whole.len("items"))
	var ids []string
	for cursor, pages := "", 0; ; pages++ {
		require.Less(t, pages, 1000)
		page := p.do("GET", base+"/policies?limit=7&cursor="+cursor, nil).want(200)
		require.LessOrEqual(t, page.len("items"), 7)
		for i := range page.len("items") {
			ids = append(ids, page.text("items."+string(rune('0'+i))+".id"))
		}
		next, ok := page.get("next_cursor").(string)
		if !ok {
			break
		}
		cursor = next
	}
	require.Len(t, ids, system+2)

	role := p.do("POST", base+"/roles", m{"name": "Viewer", "policies": []string{view, id}, "receive_load_alerts": true}).want(201)
	rid := role.text("id")
	p.do("POST", base+"/roles", m{"name": "VIEWER", "policies": []string{}}).want(409)
	require.ElementsMatch(t, []string{"name", "policies"}, p.do("POST", base+"/roles", m{}).want(422).fields())
	p.do("POST", base+"/roles", m{"name": "x", "policies": []string{"nothing"}}).want(422)
	used := p.do("DELETE", base+"/policies/"+id, nil).want(409)
	require.InDelta(t, 1, used.get("count"), 0)
	require.Equal(t, 1, used.len("uses"))
	require.Equal(t, role.revision(), used.revision(), "a 409 names the present revision")
	copied := p.do("POST", base+"/roles/"+rid+"/copy", nil).want(201)
	require.NotEqual(t, rid, copied.text("id"))
	p.do("POST", base+"/roles/"+rid+"/copy", m{"name": "Viewer"}).want(409)
	require.Equal(t, "Second", p.do("POST", base+"/roles/"+rid+"/copy", m{"name": "Second"}).want(201).text("name"))
	p.do("POST", base+"/roles/nothing/copy", nil).want(404)
	p.do("PATCH", base+"/roles/"+rid, m{"name": "Watcher"}).want(200)
	p.do("PATCH", base+"/roles/"+rid, m{"name": ""}).want(422)
	p.do("PATCH", base+"/roles/"+rid, m{}).want(200)
	defaults := p.do("POST", base+"/roles/defaults", nil).want(201)
	require.Positive(t, defaults.len("items"))
	require.Zero(t, p.do("POST", base+"/roles/defaults", nil).want(201).len("items"))

	p.account("mia")
	member := p.member("own", "mia", grant("environments", "own", rid))
	p.do("DELETE", base+"/roles/"+rid, nil).want(409)
	p.do("DELETE", base+"/roles/"+rid+"?force=maybe", nil).want(400)
	p.do("DELETE", base+"/roles/"+rid+"?force=true", nil).want(204)
	require.Zero(t, p.do("GET", base+"/members/"+member, nil).want(200).len("grants"))
	p.do("DELETE", base+"/policies/"+id+"?force=true", nil).want(204)
	p.do("DELETE", base+"/policies/"+id, nil).want(404)
}

func TestMembers(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, id := range []string{"own", "mia", "zoe"} {
		p.account(id)
	}
	base := "/v1/accounts/own"
	p.do("PUT", base+"/environments/e", m{"name": "e"}).want(201)
	p.do("POST", base+"/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}).want(201)

	invited := p.do("POST", base+"/members", m{"email": "Mia@example.com", "display_name": "Mia", "grants": []any{grant("environment", "e", "Viewer")}}).want(201)
	id := invited.text("id")
	require.Equal(t, "pending", invited.text("status"))
	require.Equal(t, []any{"viewer"}, invited.get("grants.0.roles"))
	p.do("POST", base+"/members", m{"email": "mia@example.com"}).want(409)
	p.do("POST", base+"/members", m{"email": "own@example.com"}).want(422) // one's own
	p.do("POST", base+"/members", m{"email": "x@example.com", "grants": []any{grant("environment", "e")}}).want(422)
	p.do("POST", base+"/members", m{"email": "x@example.com", "grants": []any{grant("environment", "nowhere", "viewer")}}).want(422)
	p.do("POST", base+"/members", m{"email": "x@example.com", "grants": []any{grant("environment", "e", "nothing")}}).want(422)

	// Every event in a wrong state is a conflict that names both.
	for _, event := range []string{"suspend", "activate", "reinvite"} {
		conflict := p.do("POST", base+"/members/"+id+"/"+event, nil).want(409)
		require.Equal(t, "pending", conflict.text("state"))
	}
	p.do("POST", "/v1/collaborations/"+id+"/leave", nil, as("mia")).want(409)
	p.do("POST", base+"/members/"+id+"/resend", nil).want(200)
	p.do("POST", "/v1/collaborations/"+id+"/accept", nil, as("zoe")).want(404)
	p.do("POST", "/v1/collaborations/"+id+"/accept", nil).want(403)
	accepted := p.do("POST", "/v1/collaborations/"+id+"/accept", nil, as("mia")).want(200)
	require.Equal(t, "active", accepted.text("status"))
	require.Equal(t, "own", accepted.text("owner.id"))
	require.Equal(t, view, accepted.text("items.0.roles.0.policies.0"))
	require.Equal(t, true, p.check("mia", viewAction, "environment", "e", accepted.revision()).get("decision"))
	p.do("POST", base+"/members/"+id+"/suspend", nil).want(200)
	p.do("POST", base+"/members/"+id+"/resend", nil).want(409)
	p.do("POST", base+"/members/"+id+"/activate", nil).want(200)

	require.Equal(t, "Mi", p.do("PATCH", base+"/members/"+id, m{"display_name": "Mi"}).want(200).text("display_name"))
	p.do("PATCH", base+"/members/"+id, m{}).want(200)
	p.do("PATCH", base+"/members/"+id, m{"status": "active"}).want(400)
	require.Equal(t, "Boss", p.do("PATCH", "/v1/collaborations/"+id, m{"display_name": "Boss"}, as("mia")).want(200).text("display_name"))
	require.Equal(t, "Mi", p.do("GET", base+"/members/"+id, nil).want(200).text("display_name"))

	put := p.do("PUT", base+"/members/"+id+"/grants/environments/own", m{"roles": []string{"viewer"}, "expires_at": "2099-01-01T00:00:00+02:00"}).want(201)
	require.Equal(t, "2098-12-31T22:00:00Z", put.text("expires_at"))
	p.do("PUT", base+"/members/"+id+"/grants/environments/own", m{"roles": []string{"viewer"}, "expires_at": nil}).want(200)
	p.do("PUT", base+"/members/"+id+"/grants/environments/own", m{"roles": []string{"viewer"}, "expires_at": "2001-01-01T00:00:00Z"}).want(422)
	p.do("PUT", base+"/members/"+id+"/grants/environments/mia", m{"roles": []string{"viewer"}}).want(422)
	p.do("PUT", base+"/members/"+id+"/grants/planet/own", m{"roles": []string{"viewer"}}).want(422)
	p.do("PUT", base+"/members/"+id+"/grants/environment/e", m{}).want(422)
	p.do("DELETE", base+"/members/"+id+"/grants/environments/own", nil).want(204)
	p.do("DELETE", base+"/members/"+id+"/grants/planet/own", nil).want(404)
	set := p.do("PUT", base+"/members/"+id+"/grants", m{"grants": []any{grant("environments", "own", "viewer")}}).want(200)
	require.Equal(t, 1, set.len("grants"))
	p.do("PUT", base+"/members/"+id+"/grants", m{}).want(422)

	p.do("POST", base+"/members/"+id+"/copy", m{"email": "zoe@example.com"}).want(201)
	p.do("POST", base+"/members/"+id+"/copy", m{"email": "mia@example.com"}).want(409)
	left := p.do("POST", "/v1/collaborations/"+id+"/leave", nil, as("mia")).want(200)
	require.Equal(t, "collaboration_left", p.check("mia", viewAction, "environment", "e", left.revision()).text("context.reason"))
	require.Equal(t, "pending", p.do("POST", base+"/members/"+id+"/reinvite", nil).want(200).text("status"))
	p.do("POST", "/v1/collaborations/"+id+"/reject", nil, as("mia")).want(200)
	p.do("DELETE", base+"/members/"+id, nil).want(204)
	gone := p.do("DELETE", base+"/members/"+id, nil).want(204)
	require.Equal(t, "removed", p.do("GET", base+"/members/"+id, nil).want(200).text("status"))
	p.do("DELETE", base+"/members/nobody", nil).want(404)
	require.Equal(t, gone.revision(), p.do("DELETE", base+"/members/"+id, nil).revision(), "removing what is removed changes nothing")
}

func TestViews(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, id := range []string{"own", "mia", "zoe", "sue"} {
		p.account(id)
	}
	base := "/v1/accounts/own"
	p.do("PUT", base+"/groups/g", m{"name": "g"}).want(201)
	p.do("PUT", base+"/environments/e", m{"name": "e", "groups": []string{"g"}}).want(201)
	p.do("POST", base+"/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}).want(201)
	p.do("POST", base+"/roles", m{"id": "alert", "name": "Alert", "policies": []string{view}, "receive_load_alerts": true}).want(201)
	mia := p.member("own", "mia", grant("environment", "e", "viewer"), grant("groups", "own", "alert"))
	zoe := p.member("own", "zoe", grant("group", "g", "alert"))
	sue := p.do("POST", base+"/members", m{"email": "new@example.com", "grants": []any{grant("environment", "e", "viewer")}}).want(201).text("id")

	list := p.do("GET", base+"/resources/environment/e/collaborators", nil).want(200)
	require.Equal(t, 3, list.len("items"), "%s", list.body)
	seen := map[string]string{}
	for _, i := range []string{"0", "1", "2"} {
		level, _ := list.get("items." + i + ".level").(string)
		seen[list.text("items."+i+".member")] = list.text("items."+i+".status") + " " + level
	}
	require.Equal(t, map[string]string{mia: "active direct", zoe: "active shared_env_groups", sue: "pending "}, seen)
	one := p.do("GET", base+"/resources/environment/e/collaborators?limit=1", nil).want(200)
	require.Equal(t, 1, one.len("items"))
	require.NotEmpty(t, one.text("next_cursor"))
	p.do("GET", base+"/resources/environment/nowhere/collaborators", nil).want(404)
	p.do("GET", base+"/resources/planet/e/collaborators", nil).want(404)
	p.do("GET", "/v1/accounts/mia/resources/environment/e/collaborators", nil).want(404)

	permissions := p.do("GET", base+"/members/"+mia+"/permissions?type=environment&id=e", nil).want(200)
	require.Equal(t, "direct", permissions.text("level"))
	require.Equal(t, []any{"Viewer"}, permissions.get("roles"))
	require.Contains(t, permissions.get("actions"), viewAction)
	require.Equal(t, "groups", permissions.text("levels.shared_env_groups.0.inherited_from"))
	p.do("GET", base+"/members/"+mia+"/permissions?type=environment&id=e", nil, as("mia")).want(200)
	p.do("GET", base+"/members/"+zoe+"/permissions?type=environment&id=e", nil, as("mia")).want(404)
	p.do("GET", base+"/members/"+mia+"/permissions?type=environment&id=e", nil, as("sue")).want(404)
	p.do("GET", base+"/members/"+mia+"/permissions", nil).want(400)
	p.do("GET", base+"/members/"+mia+"/permissions?type=environment&id=nowhere", nil).want(404)
	require.Equal(t, "collaboration_pending", p.do("GET", base+"/members/"+sue+"/permissions?type=environment&id=e", nil).want(200).text("reason"))

	// A member's direct role hides the group's: zoe is told, mia is not.
	alerts := p.do("GET", base+"/environments/e/load-alert-recipients", nil).want(200)
	require.Equal(t, 2, alerts.len("items"), "%s", alerts.body)
	require.Equal(t, "own", alerts.text("items.0.account"))
	require.Equal(t, "zoe@example.com", alerts.text("items.1.email"))

	put := p.do("PUT", base+"/resources/environment/e/collaborators/"+zoe, m{"roles": []string{"viewer"}}).want(201)
	require.Equal(t, "direct", put.text("level"))
	p.do("PUT", base+"/resources/environment/e/collaborators/"+zoe, m{"roles": []string{"viewer"}}).want(200)
	p.do("PUT", base+"/resources/environment/e/collaborators/"+zoe, m{"roles": []string{}}).want(422)
	require.Equal(t, 1, p.do("GET", base+"/environments/e/load-alert-recipients", nil).want(200).len("items"))
	p.do("DELETE", base+"/resources/environment/e/collaborators/"+zoe, nil).want(204)
	require.Equal(t, 2, p.do("GET", base+"/environments/e/load-alert-recipients", nil).want(200).len("items"))

	require.Equal(t, 1, p.do("GET", "/v1/collaborations", nil, as("mia")).want(200).len("items"))
	require.Zero(t, p.do("GET", "/v1/collaborations", nil, as("sue")).want(200).len("items"))
	p.do("GET", "/v1/collaborations", nil).want(403)
	p.do("GET", "/v1/collaborations/"+mia, nil, as("mia")).want(200)
	p.do("GET", "/v1/collaborations/"+zoe, nil, as("mia")).want(404)

	search := p.do("GET", base+"/members?search=ZOE&sort=-email&status=active,pending", nil).want(200)
	require.Equal(t, 1, search.len("items"))
	p.do("GET", base+"/members?status=dead", nil).want(422)
	p.do("GET", base+"/members?sort=age", nil).want(422)
	p.do("GET", base+"/members?limit=0", nil).want(422)
	p.do("GET", base+"/members?limit=x", nil).want(400)
	p.do("GET", base+"/members?cursor=x", nil).want(400)
	p.do("GET", base+"/members?dry_run=true", nil).want(400)
	p.do("GET", base+"/members?limit=5000", nil).want(200)

	audit := p.do("GET", base+"/audit?limit=1000", nil).want(200)
	require.Greater(t, audit.len("items"), 5)
	p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200)
	p.do("GET", "/v1/audit?since=yesterday", nil).want(400)
	p.do("GET", "/v1/audit", nil, as("own")).want(403)
	p.do("GET", base+"/audit", nil, as("own")).want(200)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	body := m{"name": "Viewer", "policies": []string{view}}
	key := with("Idempotency-Key", `"k-1"`)
	first := p.do("POST", "/v1/accounts/own/roles", body, key).want(201)
	again := p.do("POST", "/v1/accounts/own/roles", body, key).want(201)
	require.Equal(t, string(first.body), string(again.body))
	require.Equal(t, first.revision(), again.revision())
	require.Equal(t, 1, p.do("GET", "/v1/accounts/own/roles", nil).want(200).len("items"))
	p.do("POST", "/v1/accounts/own/roles", m{"name": "Other", "policies": []string{view}}, key).want(422)
	p.do("POST", "/v1/accounts/own/roles/defaults", nil, key).want(422)
	p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}, key).want(400)
	p.do("POST", "/v1/accounts/own/roles", body, with("Idempotency-Key", "")).want(400)
}

func TestActAs(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, id := range []string{"own", "mia"} {
		p.account(id)
	}
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}, as("own")).want(201)
	p.do("GET", "/v1/accounts/own", nil, as("own")).want(200)
	p.do("GET", "/v1/accounts/own", nil, as("nobody")).want(403)
	p.do("GET", "/v1/accounts/own", nil, as("no body")).want(403)
	p.do("GET", "/v1/accounts/own", nil, as("mia")).want(404)
	stranger := p.do("GET", "/v1/accounts/own/roles", nil, as("mia")).want(404)
	nowhere := p.do("GET", "/v1/accounts/nobody/roles", nil, as("mia")).want(404)
	require.Equal(t, string(nowhere.body), strings.ReplaceAll(string(stranger.body), `\"own\"`, `\"nobody\"`), "an account that is there looks like one that is not")
	p.member("own", "mia")
	require.Empty(t, p.do("GET", "/v1/accounts/own/roles", nil, as("mia")).want(200).get("items"), "no role is shared with a member without grants")
	p.do("GET", "/v1/accounts/own/audit", nil, as("mia")).want(403)
	p.do("PUT", "/v1/accounts/own/groups/g2", m{"name": "x"}, as("mia")).want(403)

	// Environments are the platform's; an owner may sort them into groups.
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e", "groups": []string{"g"}}, as("own")).want(200)
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "renamed"}, as("own")).want(403)
	p.do("PUT", "/v1/accounts/own/environments/e2", m{"name": "e2"}, as("own")).want(403)
	p.do("DELETE", "/v1/accounts/own/environments/e", nil, as("own")).want(403)
	p.do("POST", "/v1/accounts/own/environments/e/transfer", m{"to": "mia"}, as("own")).want(403)
	p.do("PUT", "/v1/accounts/own", m{"email": "x@example.com"}, as("own")).want(403)
	p.do("DELETE", "/v1/accounts/own", nil, as("own")).want(403)
	p.do("GET", "/v1/accounts?email=x@example.com", nil, as("own")).want(403)

	// Where nobody can be acted for, it is a fault of the request.
	p.do("POST", "/v1/import", []any{}, as("own")).want(400)
	p.do("POST", "/access/v1/evaluation", m{}, as("own")).want(400)
	p.do("GET", "/v1/feed", nil, as("own")).want(400)
	p.do("POST", "/v1/feed/lookup", m{}, as("own")).want(400)
	p.do("GET", "/v1/bundles/usher.tar.gz", nil, as("own")).want(400)

	plain := with("Authorization", "Bearer "+p.newToken("resources", "collaboration"))
	p.do("GET", "/v1/accounts/own", nil, plain, as("own")).want(403)
	entries := p.do("GET", "/v1/accounts/own/audit?actor=own&limit=1000", nil).want(200)
	require.Equal(t, "own", entries.text("items.0.acted_as"))
}

func TestRevoked(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.do("GET", "/v1/policies", nil, with("Authorization", "Bearer ush_"+p.token[4:])).want(200)
	fresh := p.newToken("collaboration") // made behind the server's back, and good at once
	p.do("GET", "/v1/policies", nil, with("Authorization", "Bearer "+fresh)).want(200)
	for _, bad := range []string{"", "Basic x", "Bearer", "Bearer ush_nothing", "Bearer " + p.token + "x"} {
		refused := p.do("GET", "/v1/policies", nil, with("Authorization", bad)).want(401)
		require.Equal(t, "Bearer", refused.header.Get("WWW-Authenticate"))
		require.NotContains(t, string(refused.body), p.token)
	}
	p.do("GET", "/v1/policies", nil, func(r *http.Request) {
		r.Header["Authorization"] = []string{"Bearer " + p.token, "Bearer " + p.token}
	}).want(401)
}
