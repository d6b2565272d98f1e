package admin_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// platformMethods are those of the platform's API that must have an equivalent.
const platformMethods = `AcceptCollaboration RejectCollaboration LeaveCollaboration EditCollaboration GetCollaborations GetCollaborationResources
GetCollaborationResourceMethods GetCollaborationRoleMethods InviteMember ResendMemberInvitation EditMember DeleteMember SuspendMember ActivateMember
GetMembers GetMemberResources AddResources SetResource SetResources DeleteResources GetResourceRoles AddRole EditRole DeleteRole GetRoles AddPolicy
EditPolicy DeletePolicy GetPolicies GetPolicyMethods CheckEnvironmentRights`

// methodTable reads docs/platform-methods.md: method → pattern of its request.
func methodTable(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	data, err := os.ReadFile("../docs/platform-methods.md")
	require.NoError(t, err)
	table := map[string]*regexp.Regexp{}
	for _, row := range regexp.MustCompile("(?m)^\\| ([A-Z]\\w+) \\| `([A-Z]+ [^`]+)` \\|").FindAllStringSubmatch(string(data), -1) {
		request := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(row[2], `[^/]+`)
		table[row[1]] = regexp.MustCompile("^" + request + `(\?.*)?$`)
	}
	return table
}

// TestPlatformMethods uses what docs/platform-methods.md names, each method.
func TestPlatformMethods(t *testing.T) {
	t.Parallel()
	table := methodTable(t)
	methods := strings.Fields(platformMethods)
	require.Len(t, table, len(methods))
	p, provider := startWithProvider(t)
	for _, id := range []string{"own", "mia", "eve"} {
		p.account(id)
	}
	for _, id := range []string{"e1", "e2"} {
		p.do("PUT", "/v1/accounts/own/environments/"+id, m{"name": id}).want(201)
	}
	owner, mia, eve := provider.as("own"), provider.as("mia"), provider.as("eve")
	used := map[string]bool{}
	// use calls as who and checks that the table names this request for the method.
	use := func(method, verb, path string, body any, status int, who ...option) answer {
		t.Helper()
		require.Contains(t, table, method)
		require.Regexp(t, table[method], verb+" "+path, method)
		used[method] = true
		return p.do(verb, path, body, who...).want(status)
	}
	const own = "/v1/accounts/own"

	// Policies and roles.
	use("AddPolicy", "POST", own+"/policies", m{"id": "press", "name": "Press", "resources": []string{"environment"}, "actions": []string{"own.press.Start"}}, 201, owner)
	use("EditPolicy", "PATCH", own+"/policies/press", m{"actions": []string{"own.press.Start", "own.press.Stop"}}, 200, owner)
	require.Equal(t, 2, use("GetPolicyMethods", "GET", own+"/policies/press", nil, 200, owner).len("actions"))
	require.NotZero(t, use("GetPolicies", "GET", own+"/policies", nil, 200, owner).len("items"))
	use("AddRole", "POST", own+"/roles", m{"id": "printer", "name": "Printer", "policies": []string{"press"}}, 201, owner)
	use("AddRole", "POST", own+"/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}, 201, owner)
	use("EditRole", "PATCH", own+"/roles/printer", m{"policies": []string{"press", view}}, 200, owner)
	require.Equal(t, 2, use("GetRoles", "GET", own+"/roles", nil, 200, owner).len("items"))

	// An invitation and what it brings.
	invited := use("InviteMember", "POST", own+"/members", m{"email": "mia@example.com", "grants": []any{grant("environment", "e1", "printer")}}, 201, owner)
	member := own + "/members/" + invited.text("id")
	shared := "/v1/collaborations/" + invited.text("id")
	use("ResendMemberInvitation", "POST", member+"/resend", nil, 200, owner)
	use("AcceptCollaboration", "POST", shared+"/accept", nil, 200, mia)
	require.Equal(t, 1, use("GetCollaborations", "GET", "/v1/collaborations", nil, 200, mia).len("items"))
	use("EditCollaboration", "PATCH", shared, m{"display_name": "The press"}, 200, mia)
	require.Equal(t, "e1", use("GetCollaborationResources", "GET", shared, nil, 200, mia).text("items.0.resource.id"))
	require.Equal(t, 2, use("GetCollaborationRoleMethods", "GET", shared, nil, 200, mia).len("items.0.roles.0.policies"))
	may := use("GetCollaborationResourceMethods", "GET", member+"/permissions?type=environment&id=e1", nil, 200, mia)
	require.Contains(t, string(may.body), "own.press.Stop")

	// What is shared with a member.
	use("AddResources", "PUT", member+"/grants/environment/e2", m{"roles": []string{"viewer"}}, 201, owner)
	use("SetResource", "PUT", member+"/grants/environment/e2", m{"roles": []string{"viewer", "printer"}}, 200, owner)
	require.Equal(t, 2, use("GetMemberResources", "GET", member, nil, 200, owner).len("grants"))
	require.Equal(t, "Printer", use("GetResourceRoles", "GET", own+"/resources/environment/e1/collaborators", nil, 200, owner).text("items.0.roles.0"))
	use("DeleteResources", "DELETE", member+"/grants/environment/e2", nil, 204, owner)
	changed := use("SetResources", "PUT", member+"/grants", m{"grants": []any{grant("environment", "e1", "printer"), grant("environment", "e2", "viewer")}}, 200, owner)
	use("EditMember", "PATCH", member, m{"display_name": "Mia, press"}, 200, owner)
	require.Equal(t, "Mia, press", use("GetMembers", "GET", own+"/members", nil, 200, owner).text("items.0.display_name"))

	// Several methods on an environment: all of them, or any.
	rights := use("CheckEnvironmentRights", "POST", "/access/v1/evaluations", m{
		"subject": m{"type": "account", "id": "mia"}, "resource": m{"type": "environment", "id": "e2"}, "context": m{"min_revision": changed.revision()},
		"evaluations": []any{m{"action": m{"name": "environment.control.GetEnvInfo"}}, m{"action": m{"name": "own.press.Start"}}},
	}, 200)
	require.Equal(t, true, rights.get("evaluations.0.decision"))
	require.Equal(t, false, rights.get("evaluations.1.decision"))

	// How it ends.
	use("SuspendMember", "POST", member+"/suspend", nil, 200, owner)
	use("ActivateMember", "POST", member+"/activate", nil, 200, owner)
	use("LeaveCollaboration", "POST", shared+"/leave", nil, 200, mia)
	other := use("InviteMember", "POST", own+"/members", m{"email": "eve@example.com", "grants": []any{}}, 201, owner).text("id")
	use("RejectCollaboration", "POST", "/v1/collaborations/"+other+"/reject", nil, 200, eve)
	use("DeleteMember", "DELETE", member, nil, 204, owner)
	use("DeleteRole", "DELETE", own+"/roles/printer?force=true", nil, 204, owner)
	use("DeletePolicy", "DELETE", own+"/policies/press", nil, 204, owner)
	p.do(http.MethodGet, own+"/policies/press", nil, owner).want(404)
	for _, method := range methods {
		require.True(t, used[method], method)
	}
}
