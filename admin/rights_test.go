package admin_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// shared is a world with a manager of the environment e, who may share it and see who
// it is shared with, and ann, who has nothing yet.
type shared struct {
	*platform

	mgr, ann string // collaborations
}

func startShared(t *testing.T) *shared {
	t.Helper()
	p, _ := startWithProvider(t)
	for _, id := range []string{"own", "mgr", "ann", "eve"} {
		p.account(id)
	}
	p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}).want(201)
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e", "groups": []string{"g"}}).want(201)
	p.do("PUT", "/v1/accounts/own/environments/secret", m{"name": "secret"}).want(201)
	for id, of := range map[string][]string{"viewer": {view}, "starter": {view, "environment.start"}, "manager": {view, "account.collaboration"}} {
		p.do("POST", "/v1/accounts/own/roles", m{"id": id, "name": strings.ToUpper(id), "policies": of}).want(201)
	}
	return &shared{p, p.member("own", "mgr", grant("environment", "e", "manager")), p.member("own", "ann")}
}

const inOwn = "/v1/accounts/own"

// TestSight: members see themselves, and what their rights show.
func TestSight(t *testing.T) {
	t.Parallel()
	p := startShared(t)
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/secret", m{"roles": []string{"starter"}}).want(201)
	mgr, ann := as("mgr"), as("ann")
	for _, query := range []string{"", "?search=example", "?sort=-last_changed", "?status=active"} {
		alone := p.do("GET", inOwn+"/members"+query, nil, ann).want(200)
		require.Equal(t, 1, alone.len("items"), query)
		require.Equal(t, p.ann, alone.text("items.0.id"))
	}
	require.Zero(t, p.do("GET", inOwn+"/members?search=mgr", nil, ann).want(200).len("items"))
	p.do("GET", inOwn+"/members/"+p.ann, nil, ann).want(200)
	unknown := p.do("GET", inOwn+"/members/nobody", nil, ann).want(404)
	hidden := p.do("GET", inOwn+"/members/"+p.mgr, nil, ann).want(404)
	require.Equal(t, unknown.get("type"), hidden.get("type"))
	p.do("GET", inOwn+"/members/"+p.mgr+"/permissions?type=environment&id=e", nil, ann).want(404)
	p.do("GET", inOwn+"/members", nil, as("eve")).want(404)

	p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, ann).want(404)
	p.do("GET", inOwn+"/resources/environment/secret/collaborators", nil, mgr).want(404)
	require.Equal(t, 1, p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, mgr).want(200).len("items"))
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/e", m{"roles": []string{"viewer"}}, mgr).want(201)
	require.Equal(t, 2, p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, mgr).want(200).len("items"))
	require.Equal(t, 1, p.do("GET", inOwn+"/resources/environment/e/collaborators", nil, ann).want(200).len("items"))
	p.do("GET", inOwn+"/members/"+p.ann+"/permissions?type=environment&id=e", nil, mgr).want(200)
	p.do("GET", inOwn+"/members/"+p.ann+"/permissions?type=environment&id=secret", nil, mgr).want(404)

	// The answer to a write shows the grants on items that the writer may list.
	set := p.do("PUT", inOwn+"/members/"+p.ann+"/grants",
		m{"grants": []any{grant("environment", "e", "manager"), grant("environment", "secret", "starter")}}, mgr).want(200)
	require.Equal(t, 1, set.len("grants"))
	require.Equal(t, "e", set.text("grants.0.resource.id"))

	tree := p.do("GET", inOwn+"/tree", nil, mgr).want(200)
	require.Zero(t, tree.len("groups"), "the group is not shared, what stands in it comes up")
	require.Equal(t, 1, tree.len("environments"))
	require.Equal(t, "e", tree.text("environments.0.id"))
	require.Zero(t, p.do("GET", inOwn+"/tree", nil, as("ann")).want(200).len("groups"))
}

// TestInviteMore: an invitation by a member tells nothing of who has the address
// already, adds its grant, and replaces none.
func TestInviteMore(t *testing.T) {
	t.Parallel()
	p := startShared(t)
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/secret", m{"roles": []string{"starter"}}).want(201)
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/e", m{"roles": []string{"manager"}}).want(201)
	body := func(email string) m { return m{"email": email, "grants": []any{grant("environment", "e", "viewer")}} }
	fresh := p.do("POST", inOwn+"/members", body("new@example.com"), as("mgr")).want(201)
	known := p.do("POST", inOwn+"/members", body("ann@example.com"), as("mgr")).want(201)
	require.Equal(t, p.ann, known.text("id"))
	for _, field := range []string{"status", "display_name", "grants"} {
		require.Equal(t, fresh.get(field), known.get(field), field)
	}
	ann := p.do("GET", inOwn+"/members/"+p.ann, nil).want(200)
	require.Equal(t, "active", ann.text("status"))
	require.Equal(t, 2, ann.len("grants"))
	require.Equal(t, []any{"manager", "viewer"}, ann.get("grants.0.roles"))

	p.do("POST", "/v1/collaborations/"+p.ann+"/leave", nil, as("ann")).want(200)
	again := p.do("POST", inOwn+"/members", body("ann@example.com"), as("mgr")).want(201)
	require.Equal(t, "pending", again.text("status"))
	require.Equal(t, 2, p.do("GET", inOwn+"/members/"+p.ann, nil).want(200).len("grants"), "what was kept is kept")
}

// TestDryRun: a dry run tells what would follow, and nothing follows.
func TestDryRun(t *testing.T) {
	t.Parallel()
	p := startShared(t)
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/e", m{"roles": []string{"viewer"}}).want(201)
	head := p.do("PUT", inOwn+"/groups/g", m{"name": "g"}).want(200).revision()
	const start = "environment.control.StartEnv"

	a := p.do("PATCH", inOwn+"/roles/viewer?dry_run=true", m{"policies": []string{"environment.start"}}).want(200)
	require.Equal(t, 1, a.len("impact"), "%s", a.body)
	require.Equal(t, "ann", a.text("impact.0.account"))
	require.Equal(t, p.ann, a.text("impact.0.member"))
	require.Contains(t, a.get("impact.0.gained"), start)
	require.NotContains(t, a.get("impact.0.lost"), start)
	require.NotEmpty(t, a.get("impact.0.lost"))

	invited := m{"email": "new@example.com", "grants": []any{grant("environment", "e", "starter")}}
	key := with("Idempotency-Key", "once")
	a = p.do("POST", inOwn+"/members?dry_run=true", invited, key).want(200)
	require.Contains(t, a.get("impact.0.gained"), start)
	require.Nil(t, a.get("impact.0.member"), "there is none yet")
	a = p.do("DELETE", inOwn+"/roles/viewer?dry_run=true&force=true", nil).want(200)
	require.Equal(t, []any{}, a.get("impact.0.gained"))
	a = p.do("DELETE", inOwn+"/environments/e?dry_run=true", nil).want(200)
	require.Equal(t, 2, a.len("impact"))
	a = p.do("PUT", inOwn+"/environments/e?dry_run=true", m{"name": "e"}).want(200)
	require.Zero(t, a.len("impact"))

	p.do("DELETE", inOwn+"/roles/viewer?dry_run=true", nil).want(409)
	p.do("PATCH", inOwn+"/roles/viewer?dry_run=true", m{"policies": []string{"none"}}).want(422)
	p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/secret?dry_run=true", m{"roles": []string{"viewer"}}, as("mgr")).want(403)
	a = p.do("PUT", inOwn+"/members/"+p.ann+"/grants/environment/e?dry_run=true", m{"roles": []string{"manager"}}, as("mgr")).want(200)
	require.Equal(t, 1, a.len("impact"))
	require.Equal(t, head, p.do("PUT", inOwn+"/groups/g", m{"name": "g"}).want(200).revision(), "nothing was written")
	p.do("POST", inOwn+"/members", m{"email": "other@example.com"}, key).want(201) // the key was not used
}

// TestRevokedManager: a grant by a manager whose right is revoked at the same moment
// is made before that, or not at all.
func TestRevokedManager(t *testing.T) {
	t.Parallel()
	p := startShared(t)
	for range 5 {
		var work sync.WaitGroup
		var revoked, given answer
		work.Go(func() {
			revoked, _ = p.try("PUT", inOwn+"/members/"+p.mgr+"/grants/environment/e", m{"roles": []string{"viewer"}})
		})
		work.Go(func() {
			given, _ = p.try("PUT", inOwn+"/members/"+p.ann+"/grants/environment/e", m{"roles": []string{"viewer"}}, as("mgr"))
		})
		work.Wait()
		require.Equal(t, 200, revoked.status, "%s", revoked.body)
		if given.status == 201 {
			require.Less(t, given.revision(), revoked.revision())
			p.do("DELETE", inOwn+"/members/"+p.ann+"/grants/environment/e", nil).want(204)
		} else {
			require.Equal(t, 403, given.status, "%s", given.body)
		}
		p.do("PUT", inOwn+"/members/"+p.mgr+"/grants/environment/e", m{"roles": []string{"manager"}}).want(200)
	}
}
