package policiestest

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/usher-authz/usher/policies"
)

// World is a random platform: some owners whose members overlap, as documents.
type World struct {
	Now       time.Time // grants end some time before and after it, or not at all
	Catalogue policies.Catalogue
	Documents []policies.Document // normalized, roles as ids
	accounts  []policies.Account  // owners and members
}

// NewWorld makes a world on the embedded catalogue. Nothing in it contradicts
// anything else: all documents can be imported into one platform, in any order.
func NewWorld(d Dice, now time.Time) (World, error) {
	catalogue, err := policies.EmbeddedCatalogue()
	if err != nil {
		return World{}, err
	}
	b := worldBuilder{dice: d, naming: newNaming(d), world: World{Now: policies.NormalizeTime(now), Catalogue: catalogue}}
	for i := range 2 + d.Roll(6) {
		b.account(i)
	}
	owners := 1 + d.Roll(min(4, len(b.world.accounts)))
	for _, owner := range b.world.accounts[:owners] {
		b.world.Documents = append(b.world.Documents, b.document(owner).Normalize())
	}
	return b.world, nil
}

// Model answers questions about w.
func (w World) Model() Model { return Model{Catalogue: w.Catalogue, Documents: w.Documents} }

type worldBuilder struct {
	dice   Dice
	naming *naming
	world  World
}

func (b *worldBuilder) account(i int) {
	id := b.naming.id("account")
	b.world.accounts = append(b.world.accounts, policies.Account{
		ID: policies.AccountID(id),
		Email: fmt.Sprintf("%s%d@%s",
			pick(b.dice, []string{"mia", "Mia.O'Hara+x", "имя", "a_b"}), i,
			pick(b.dice, []string{"example.com", "Example.ORG", "bücher.example"})),
		DisplayName: b.naming.text(),
	})
}

func (b *worldBuilder) document(owner policies.Account) policies.Document {
	doc := policies.Document{Account: owner}
	space := string(owner.ID) + "/"
	b.groups(&doc, space)
	for range b.dice.Roll(8) {
		doc.Environments = append(doc.Environments, policies.Environment{
			ID:     policies.EnvironmentID(b.naming.id("environment")),
			Name:   policies.NormalizeName(pick(b.dice, namePool)),
			Groups: groupIDs(some(b.dice, doc.Groups, 4)),
		})
	}
	b.policies(&doc, space)
	b.roles(&doc, space)
	b.members(&doc)
	return doc
}

func (b *worldBuilder) groups(doc *policies.Document, space string) {
	for range b.dice.Roll(8) {
		g := policies.Group{
			ID:    policies.GroupID(b.naming.id("group")),
			Color: pick(b.dice, []string{policies.DefaultColor, "#00ff7F"}),
		}
		siblings := space + "/"
		if len(doc.Groups) > 0 && !chance(b.dice, 3) {
			// Often the last one, so that chains are long.
			parent := doc.Groups[len(doc.Groups)-1].ID
			if chance(b.dice, 2) {
				parent = pick(b.dice, doc.Groups).ID
			}
			g.Parent = &parent
			siblings += string(parent)
		}
		g.Name = b.naming.name(siblings, func(string) bool { return false })
		doc.Groups = append(doc.Groups, g)
	}
}

func groupIDs(groups []policies.Group) []policies.GroupID {
	ids := make([]policies.GroupID, len(groups))
	for i, g := range groups {
		ids[i] = g.ID
	}
	return ids
}

// ownActions are actions that only custom policies name. The pool is small, so
// that one owner knows what another does not.
var ownActions = []policies.ActionName{"acme.ci.Promote", "acme.ci.Rollback", "x", "environment.control.StartEnv2", "a-b_c.D.1"}

func (b *worldBuilder) policies(doc *policies.Document, space string) {
	for range b.dice.Roll(4) {
		id := policies.PolicyID(b.naming.id(space + "policy"))
		if b.world.Catalogue.Index().IsSystem(id) {
			id = "own." + id
		}
		p := policies.Policy{
			ID: id, Name: policies.NormalizeName(pick(b.dice, namePool)), Description: b.naming.text(),
			Resources: some(b.dice, policies.ResourceTypes, 4),
			Actions:   some(b.dice, ownActions, 3),
		}
		for range b.dice.Roll(3) {
			p.Actions = append(p.Actions, pick(b.dice, pick(b.dice, b.world.Catalogue.Policies).Actions))
		}
		doc.Policies = append(doc.Policies, p)
	}
}

// usualPolicies are those that most roles have, so that questions often hit.
var usualPolicies = []policies.PolicyID{
	"environment.view", "environment.start", "environment.create", "env-group.view", "env-group.manage",
	"env-group.assign", "account.collaboration", "account.members", "account.billing",
}

func (b *worldBuilder) roles(doc *policies.Document, space string) {
	count := 1 + b.dice.Roll(5)
	ids := make([]policies.RoleID, count)
	for i := range ids {
		ids[i] = policies.RoleID(b.naming.id(space + "role"))
	}
	for _, id := range ids {
		r := policies.Role{
			ID: id, Description: b.naming.text(), ReceiveLoadAlerts: chance(b.dice, 3),
			Name:     b.naming.name(space+"role", func(s string) bool { return slices.Contains(ids, policies.RoleID(s)) }),
			Policies: some(b.dice, usualPolicies, 4),
		}
		if chance(b.dice, 3) {
			r.Policies = append(r.Policies, pick(b.dice, b.world.Catalogue.Policies).ID)
		}
		for _, p := range some(b.dice, doc.Policies, 2) {
			r.Policies = append(r.Policies, p.ID)
		}
		doc.Roles = append(doc.Roles, r)
	}
}

func (b *worldBuilder) members(doc *policies.Document) {
	for _, account := range b.world.accounts {
		if account.ID == doc.Account.ID || chance(b.dice, 4) {
			continue
		}
		doc.Members = append(doc.Members, b.member(doc, policies.DocumentAccount{
			ID: &account.ID, Email: account.Email, DisplayName: account.DisplayName,
		}))
	}
	if chance(b.dice, 3) {
		doc.Members = append(doc.Members, b.member(doc, policies.DocumentAccount{
			Email: "nobody-yet-" + strconv.Itoa(b.dice.Roll(100)) + "@nowhere.example",
		}))
	}
}

func (b *worldBuilder) member(doc *policies.Document, account policies.DocumentAccount) policies.DocumentMember {
	m := policies.DocumentMember{Account: account, DisplayName: b.naming.text(), Status: policies.StatusActive}
	if chance(b.dice, 3) {
		m.Status = pick(b.dice, policies.Statuses[:len(policies.Statuses)-1]) // all but removed
	}
	for _, r := range some(b.dice, resources(doc), 6) {
		roles := some(b.dice, doc.Roles, 2)
		if len(roles) == 0 {
			roles = []policies.Role{pick(b.dice, doc.Roles)}
		}
		g := policies.Grant{Resource: r, ExpiresAt: b.end()}
		for _, role := range roles {
			g.Roles = append(g.Roles, role.ID)
		}
		m.Grants = append(m.Grants, g)
	}
	return m
}

func (b *worldBuilder) end() *time.Time {
	if !chance(b.dice, 3) {
		return nil
	}
	t := pick(b.dice, []time.Time{
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2001, 2, 3, 4, 5, 6, 789_000, time.UTC),
		b.world.Now.Add(-24 * time.Hour),
		b.world.Now.Add(24 * time.Hour),
		b.world.Now.Add(48*time.Hour + time.Microsecond),
		time.Date(2997, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	})
	return &t
}

// resources are all that doc's owner can share.
func resources(doc *policies.Document) []policies.Resource {
	id := string(doc.Account.ID)
	all := []policies.Resource{{Type: policies.TypeEnvironments, ID: id}, {Type: policies.TypeGroups, ID: id}, {Type: policies.TypeAccount, ID: id}}
	for _, g := range doc.Groups {
		all = append(all, policies.Resource{Type: policies.TypeGroup, ID: string(g.ID)})
	}
	for _, e := range doc.Environments {
		all = append(all, policies.Resource{Type: policies.TypeEnvironment, ID: string(e.ID)})
	}
	return all
}

// Instants are moments at which answers about w may differ: its present, and
// the end of each grant, with the microseconds before and after. Ends after 2261
// are left out: OPA's clock, nanoseconds in 64 bits, does not get there.
func (w World) Instants() []time.Time {
	all := []time.Time{w.Now}
	for _, doc := range w.Documents {
		for _, m := range doc.Members {
			for _, g := range m.Grants {
				if t := g.ExpiresAt; t != nil && t.Year() < 2262 {
					all = append(all, t.Add(-time.Microsecond), *t, t.Add(time.Microsecond))
				}
			}
		}
	}
	return all
}
