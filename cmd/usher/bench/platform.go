package bench

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// What one owner of the standard platform has (architecture.md, How fast).
const (
	environmentsEach = 20
	groupsEach       = 5
	membersEach      = 10
	grantsEach       = 50
	rolesEach        = 5
	// revocable is the role that only changes give, and alone allows what they are
	// watched by.
	revocable = rolesEach - 1
)

// platform is generated: the same for the same seed and number of owners.
type platform struct {
	seed      uint64
	owners    int
	catalogue policies.Catalogue
	documents []policies.Document // of all owners; change does without
}

func generate(seed uint64, owners int) (*platform, error) {
	catalogue, err := policies.EmbeddedCatalogue()
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	p := &platform{seed: seed, owners: owners, catalogue: catalogue}
	for n := range owners {
		p.documents = append(p.documents, p.document(n, owners))
	}
	return p, nil
}

func (p *platform) owner(n int) policies.AccountID {
	return policies.AccountID(fmt.Sprintf("bench%d-owner-%d", p.seed, n))
}

func email(id policies.AccountID) string { return string(id) + "@bench.example" }

// document is owner n's. Which environment stands in which groups, and what is
// granted by which role, is drawn.
func (p *platform) document(n, owners int) policies.Document {
	dice := rand.New(rand.NewPCG(p.seed, uint64(n))) //nolint:gosec // a platform that can be made again, no secret
	owner := p.owner(n)
	d := policies.Document{Account: policies.Account{ID: owner, Email: email(owner)}, Policies: []policies.Policy{}}
	id := func(kind string, i int) string { return fmt.Sprintf("%s-%s%d", owner, kind, i) }
	for i := range groupsEach {
		g := policies.Group{ID: policies.GroupID(id("g", i)), Name: fmt.Sprintf("Group %d", i), Color: policies.DefaultColor}
		if i > 0 {
			g.Parent = new(policies.GroupID(id("g", (i-1)/2)))
		}
		d.Groups = append(d.Groups, g)
	}
	for i := range environmentsEach {
		e := policies.Environment{ID: policies.EnvironmentID(id("e", i)), Name: fmt.Sprintf("Environment %d", i), Groups: []policies.GroupID{}}
		if i > 0 { // the first stands in none
			at := dice.IntN(groupsEach)
			e.Groups = append(e.Groups, d.Groups[at].ID)
			if dice.IntN(4) == 0 {
				e.Groups = append(e.Groups, d.Groups[(at+1)%groupsEach].ID)
			}
		}
		d.Environments = append(d.Environments, e)
	}
	for i, given := range [rolesEach][]policies.PolicyID{
		{"environment.view", "container.view-logs"},
		{"environment.view", "environment.start", "environment.stop"},
		{"environment.view", "environment.edit", "container.ssh", "deployment.deploy"},
		{"account.billing"},
		revocable: {"environment.delete"},
	} {
		d.Roles = append(d.Roles, policies.Role{ID: policies.RoleID(id("r", i)), Name: fmt.Sprintf("Role %d", i), Policies: given})
	}
	for i := range membersEach {
		d.Members = append(d.Members, p.member(dice, &d, i, p.owner((n+i+1)%owners)))
	}
	return d
}

// member has five grants: two direct, one on a group, and one or two on categories.
func (p *platform) member(dice *rand.Rand, d *policies.Document, i int, account policies.AccountID) policies.DocumentMember {
	m := policies.DocumentMember{Account: policies.DocumentAccount{ID: &account, Email: email(account)}, Status: policies.StatusActive}
	resources := []policies.Resource{
		{Type: policies.TypeEnvironment, ID: string(d.Environments[i].ID)},
		{Type: policies.TypeEnvironment, ID: string(d.Environments[environmentsEach/2+i].ID)},
		{Type: policies.TypeGroup, ID: string(d.Groups[i%groupsEach].ID)},
		{Type: policies.TypeGroups, ID: string(d.Account.ID)},
		{Type: policies.TypeEnvironments, ID: string(d.Account.ID)},
	}
	for _, r := range resources {
		m.Grants = append(m.Grants, policies.Grant{Resource: r, Roles: []policies.RoleID{d.Roles[dice.IntN(revocable)].ID}})
	}
	return m
}

// question is one check with the answer that it must get.
type question struct {
	policiestest.Question

	want policiestest.Answer
}

// questions are count checks, drawn over all owners, their members but the last,
// and their environments.
func (p *platform) questions(count int) []question {
	dice := rand.New(rand.NewPCG(p.seed, 1<<32)) //nolint:gosec // as above
	actions := p.actions("environment.view", "environment.start", "environment.edit", "container.ssh")
	made := make([]question, count)
	for i := range made {
		d := &p.documents[dice.IntN(len(p.documents))]
		q := policiestest.Question{
			SubjectType: "account", Subject: string(*d.Members[dice.IntN(membersEach-1)].Account.ID),
			Action:       actions[dice.IntN(len(actions))],
			ResourceType: string(policies.TypeEnvironment), ResourceID: string(d.Environments[dice.IntN(environmentsEach)].ID),
		}
		made[i] = question{q, modelOf(p, *d).Check(q, time.Now())}
	}
	return made
}

// modelOf answers what is asked about one owner: everything that such an answer rests
// on stands in its document.
func modelOf(p *platform, d policies.Document) policiestest.Model {
	return policiestest.Model{Catalogue: p.catalogue, Documents: []policies.Document{d}}
}

// change is a grant of the revocable role to the last member of owner n, on an
// environment that is not shared with it directly, and the check that it decides.
func (p *platform) change(n int) (policies.Document, policies.EnvironmentID, policiestest.Question) {
	d := p.document(n%p.owners, p.owners)
	environment := d.Environments[0].ID // the last member's are others
	return d, environment, policiestest.Question{
		SubjectType: "account", Subject: string(*d.Members[membersEach-1].Account.ID), Action: p.actions("environment.delete")[0],
		ResourceType: string(policies.TypeEnvironment), ResourceID: string(environment),
	}
}

// actions are one that each policy allows on environments.
func (p *platform) actions(ids ...policies.PolicyID) []string {
	var names []string
	for _, id := range ids {
		for _, policy := range p.catalogue.Policies {
			if policy.ID == id {
				names = append(names, string(policy.Actions[0]))
			}
		}
	}
	return names
}
