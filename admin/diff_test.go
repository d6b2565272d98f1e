package admin_test

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// What differs between two revisions is rebuilt out of the log, whatever came before
// and after.
func TestDiff(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, id := range []string{"own", "mia", "eve"} {
		p.account(id)
	}
	p.do("PUT", "/v1/accounts/own/groups/g", m{"name": "g"}).want(201)
	p.do("PUT", "/v1/accounts/own/environments/e1", m{"name": "e1", "groups": []string{"g"}}).want(201)
	p.do("PUT", "/v1/accounts/own/environments/e2", m{"name": "e2"}).want(201)
	p.do("POST", "/v1/accounts/own/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}).want(201)
	member := p.member("own", "mia")
	from := p.do("PUT", "/v1/accounts/eve", m{"email": "eve@example.com", "display_name": "Eve 2"}).want(200).revision()
	p.do("PUT", "/v1/accounts/own/members/"+member+"/grants/environment/e2", m{"roles": []string{"viewer"}}).want(201)
	middle := p.do("PUT", "/v1/accounts/own/members/"+member+"/grants/group/g", m{"roles": []string{"viewer"}}).want(201).revision()
	to := p.do("DELETE", "/v1/accounts/own/members/"+member+"/grants/environment/e2", nil).want(204).revision()
	p.do("DELETE", "/v1/accounts/own/members/"+member, nil).want(204) // afterwards

	diff := func(from, to policies.Revision, more string) map[string][2]int {
		t.Helper()
		a := p.do("GET", "/v1/audit/diff?from="+from.String()+"&to="+to.String()+more, nil).want(200)
		var answer struct {
			Items []struct {
				Owner, Account string
				Resource       struct{ Type, ID string }
				Gained, Lost   []string
			}
			Truncated bool
		}
		require.NoError(t, json.Unmarshal(a.body, &answer, json.MatchCaseInsensitiveNames(true)))
		require.False(t, answer.Truncated)
		found := map[string][2]int{}
		for _, d := range answer.Items {
			require.Equal(t, "own", d.Owner)
			require.Equal(t, "mia", d.Account)
			found[d.Resource.Type+":"+d.Resource.ID] = [2]int{min(len(d.Gained), 1), min(len(d.Lost), 1)}
		}
		return found
	}
	gained, lost := [2]int{1, 0}, [2]int{0, 1}
	require.Equal(t, map[string][2]int{"environment:e1": gained, "environment:e2": gained}, diff(from, middle, ""))
	require.Equal(t, map[string][2]int{"environment:e2": lost}, diff(middle, to, ""))
	require.Equal(t, map[string][2]int{"environment:e1": gained}, diff(from, to, "&account=own"))
	require.Equal(t, map[string][2]int{"environment:e1": gained}, diff(0, to, "&account=own&type=environment&id=e1"))
	require.Equal(t, map[string][2]int{"environment:e1": lost}, diff(to, to+1, ""))
	require.Empty(t, diff(to, to, ""))
	require.Empty(t, diff(from, to, "&account=eve"))

	p.do("GET", "/v1/audit/diff?from=2&to=1", nil).want(422)
	p.do("GET", "/v1/audit/diff?from=x&to=1", nil).want(422)
	p.do("GET", "/v1/audit/diff?from=1&to=100000", nil).want(422)
	p.do("GET", "/v1/audit/diff?from=1&to=2", nil, as("own")).want(403)
}
