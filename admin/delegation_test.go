package admin_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestDelegations makes every write of the vectors, each in a world of its own.
func TestDelegations(t *testing.T) {
	t.Parallel()
	cases, err := policiestest.Delegations()
	require.NoError(t, err)
	p := start(t)
	for _, c := range cases {
		p.do("POST", "/v1/import", []byte(c.Account)).want(200)
		path := c.Path
		for id, member := range p.memberIDs("owner") {
			path = strings.ReplaceAll(path, "{"+id+"}", member)
		}
		before := p.do("GET", "/v1/accounts/owner/export", nil).want(200).body
		var body any
		if string(c.Body) != "null" {
			body = []byte(c.Body)
		}
		a := p.do(c.Method, path, body, as(string(c.By)))
		if c.Allowed {
			require.Contains(t, []int{200, 201, 204}, a.status, "%s: %s: %s", c.Name, c.Why, a.body)
		} else {
			require.Contains(t, []int{403, 404}, a.status, "%s: %s: %s", c.Name, c.Why, a.body)
			require.Equal(t, string(before), string(p.do("GET", "/v1/accounts/owner/export", nil).want(200).body), c.Name)
		}
		p.conforms(a)
		p.forget("owner")
	}
}

// memberIDs are the collaborations of an owner by the members' accounts.
func (p *platform) memberIDs(owner string) map[string]string {
	p.t.Helper()
	var list struct {
		Items []struct {
			ID      string `json:"id"`
			Account string `json:"account"`
		} `json:"items"`
	}
	require.NoError(p.t, json.Unmarshal(p.do("GET", "/v1/accounts/"+owner+"/members?limit=1000", nil).want(200).body, &list))
	ids := map[string]string{}
	for _, item := range list.Items {
		ids[item.Account] = item.ID
	}
	return ids
}

// forget deletes an owner, and the accounts of its members.
func (p *platform) forget(owner string) {
	p.t.Helper()
	ids := p.memberIDs(owner)
	p.do("DELETE", "/v1/accounts/"+owner, nil).want(204)
	for account := range ids {
		if policies.ValidID(account) {
			p.do("DELETE", "/v1/accounts/"+account, nil).want(204)
		}
	}
}
