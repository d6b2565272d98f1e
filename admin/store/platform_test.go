package store_test

import (
	"fmt"

	"github.com/usher-authz/usher/policies"
)

// standardDocument is one owner of the standard platform (architecture.md, How fast):
// 20 environments in 5 nested groups, 10 members who are owners too, 50 grants on
// mixed levels, 5 roles.
func standardDocument(owner, owners int) policies.Document {
	account := func(i int) policies.Account {
		return policies.Account{
			ID: policies.AccountID(fmt.Sprintf("account-%d", i)), Email: fmt.Sprintf("account%d@example.com", i), DisplayName: fmt.Sprintf("Account %d", i),
		}
	}
	d := policies.Document{Account: account(owner)}
	for i := range 5 {
		g := policies.Group{ID: policies.GroupID(fmt.Sprintf("group-%d-%d", owner, i)), Name: fmt.Sprintf("Group %d", i), Color: policies.DefaultColor}
		if i > 0 {
			g.Parent = &d.Groups[i-1].ID
		}
		d.Groups = append(d.Groups, g)
	}
	for i := range 20 {
		d.Environments = append(d.Environments, policies.Environment{
			ID: policies.EnvironmentID(fmt.Sprintf("environment-%d-%d", owner, i)), Name: fmt.Sprintf("Environment %d", i),
			Groups: []policies.GroupID{d.Groups[i%5].ID},
		})
	}
	pools := [][]policies.PolicyID{
		{"environment.view"}, {"environment.view", "environment.start", "environment.stop"}, {"environment.create", "env-group.manage"},
		{"account.billing"}, {"environment.view", "container.ssh", "environment.load-alerts"},
	}
	for i, pool := range pools {
		d.Roles = append(d.Roles, policies.Role{ID: policies.RoleID(fmt.Sprintf("role-%d", i)), Name: fmt.Sprintf("Role %d", i), Policies: pool})
	}
	for i := range 10 {
		a := account((owner + 1 + i*7) % owners)
		m := policies.DocumentMember{Account: policies.DocumentAccount{ID: &a.ID, Email: a.Email, DisplayName: a.DisplayName}, Status: policies.StatusActive}
		grant := func(t policies.ResourceType, id string, role int) {
			m.Grants = append(m.Grants, policies.Grant{Resource: policies.Resource{Type: t, ID: id}, Roles: []policies.RoleID{d.Roles[role%5].ID}})
		}
		grant(policies.TypeEnvironment, string(d.Environments[2*i].ID), i)
		grant(policies.TypeEnvironment, string(d.Environments[2*i+1].ID), i+1)
		grant(policies.TypeGroup, string(d.Groups[i%5].ID), i+2)
		grant(policies.TypeEnvironments, string(d.Account.ID), i+3)
		grant(policies.TypeGroups, string(d.Account.ID), i+4)
		d.Members = append(d.Members, m)
	}
	return d.Normalize()
}
