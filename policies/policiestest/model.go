package policiestest

import (
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Question is one check.
type Question struct {
	SubjectType, Subject, Action, ResourceType, ResourceID string
	// Context of the request, and properties of the resource, in JSON; empty: none. They
	// decide nothing but with guardrails.
	Context, Properties string
}

// Answer is all that a check answers but the revision. Fields that do not stand
// with the reason are zero; lists are sorted.
type Answer struct {
	Decision   bool
	Reason     policies.Reason
	Level      policies.Level
	Roles      []string // names
	Policies   []policies.PolicyID
	Owner      policies.AccountID
	ValidUntil string // RFC 3339
	Guardrail  []string
	Observed   []string // what guardrails would have denied; no part of the answer at a door
}

// Model answers questions about documents and a catalogue, straight from
// domain.md. Accounts named as members exist too, as after an import.
type Model struct {
	Catalogue policies.Catalogue
	Documents []policies.Document
	// Guarded: [Guardrails] are in force.
	Guarded bool
}

// Check answers q at the instant now: domain.md, The check, 1 to 5.
func (m Model) Check(q Question, now time.Time) Answer {
	answer := m.check(q, now)
	if m.Guarded {
		answer = m.guard(q, answer)
	}
	return answer
}

func (m Model) check(q Question, now time.Time) Answer {
	if !m.subjectIsKnown(q) { // 1
		return Answer{Reason: policies.ReasonUnknownSubject}
	}
	doc := m.ownerOf(q)
	if doc == nil {
		return Answer{Reason: policies.ReasonUnknownResource}
	}
	answer := Answer{Owner: doc.Account.ID}
	if !m.actionIsKnown(doc, q.Action) {
		answer.Reason = policies.ReasonUnknownAction
		return answer
	}
	if q.Subject == string(doc.Account.ID) { // 2
		answer.Decision, answer.Reason = true, policies.ReasonOwner
		return answer
	}
	member := find(doc.Members, func(x policies.DocumentMember) bool {
		return x.Account.ID != nil && string(*x.Account.ID) == q.Subject
	})
	if member == nil { // 3
		answer.Reason = policies.ReasonNoCollaboration
		return answer
	}
	if member.Status != policies.StatusActive {
		answer.Reason = policies.Reason("collaboration_" + string(member.Status))
		return answer
	}
	live := liveGrants(member.Grants, now)
	level, grants := winningLevel(doc, live, q) // 4
	if len(grants) == 0 {
		answer.Reason = policies.ReasonNotShared
		return answer
	}
	roles := rolesOf(doc, grants)
	answer.Level, answer.Roles = level, names(roles)
	answer.ValidUntil = earliestEnd(grants)
	for _, p := range m.policiesOf(doc, roles) { // 5
		if allows(p, q) {
			answer.Policies = append(answer.Policies, p.ID)
		}
	}
	answer.Reason = policies.ReasonActionNotGranted
	if len(answer.Policies) > 0 {
		answer.Decision, answer.Reason = true, policies.ReasonGranted
		slices.Sort(answer.Policies)
	}
	return answer
}

func (m Model) subjectIsKnown(q Question) bool {
	if q.SubjectType != "account" {
		return false
	}
	for _, doc := range m.Documents {
		if string(doc.Account.ID) == q.Subject {
			return true
		}
		for _, x := range doc.Members {
			if x.Account.ID != nil && string(*x.Account.ID) == q.Subject {
				return true
			}
		}
	}
	return false
}

// ownerOf is the document of the resource's owner, nil if it is unknown. An
// account that is known only as a member of others owns its own categories.
func (m Model) ownerOf(q Question) *policies.Document {
	category := slices.Contains([]string{"environments", "groups", "account"}, q.ResourceType)
	for i, doc := range m.Documents {
		found := category && string(doc.Account.ID) == q.ResourceID
		for _, e := range doc.Environments {
			found = found || q.ResourceType == "environment" && string(e.ID) == q.ResourceID
		}
		for _, g := range doc.Groups {
			found = found || q.ResourceType == "group" && string(g.ID) == q.ResourceID
		}
		if found {
			return &m.Documents[i]
		}
	}
	if category && m.subjectIsKnown(Question{SubjectType: "account", Subject: q.ResourceID}) {
		return &policies.Document{Account: policies.Account{ID: policies.AccountID(q.ResourceID)}}
	}
	return nil
}

func (m Model) actionIsKnown(doc *policies.Document, action string) bool {
	for _, p := range m.allPolicies(doc) {
		if slices.Contains(p.Actions, policies.ActionName(action)) {
			return true
		}
	}
	return false
}

// allPolicies are the catalogue's and the owner's own.
func (m Model) allPolicies(doc *policies.Document) []policies.Policy {
	all := slices.Clone(doc.Policies)
	for _, p := range m.Catalogue.Policies {
		all = append(all, policies.Policy{ID: p.ID, Resources: p.Resources, Actions: p.Actions})
	}
	return all
}

func liveGrants(grants []policies.Grant, now time.Time) []policies.Grant {
	var live []policies.Grant
	for _, g := range grants {
		if g.ExpiresAt == nil || now.Before(*g.ExpiresAt) {
			live = append(live, g)
		}
	}
	return live
}

// winningLevel is the highest level that has any grant, and its grants.
func winningLevel(doc *policies.Document, grants []policies.Grant, q Question) (policies.Level, []policies.Grant) {
	if g := grantOn(grants, q.ResourceType, q.ResourceID); g != nil {
		return policies.LevelDirect, []policies.Grant{*g}
	}
	var shared []policies.Grant
	for _, group := range groupsAbove(doc, q) {
		if g := grantForGroup(doc, grants, group); g != nil {
			shared = append(shared, *g)
		}
	}
	if len(shared) > 0 {
		return policies.LevelSharedEnvGroups, shared
	}
	if q.ResourceType == "environment" {
		if g := grantOn(grants, "environments", string(doc.Account.ID)); g != nil {
			return policies.LevelBase, []policies.Grant{*g}
		}
	}
	return "", nil
}

// groupsAbove are the groups of which an environment or a group gets what is
// shared: those it stands in; itself.
func groupsAbove(doc *policies.Document, q Question) []policies.GroupID {
	switch q.ResourceType {
	case "environment":
		for _, e := range doc.Environments {
			if string(e.ID) == q.ResourceID {
				return e.Groups
			}
		}
	case "group":
		return []policies.GroupID{policies.GroupID(q.ResourceID)}
	}
	return nil
}

// grantForGroup is the grant on the group, else on its nearest ancestor that has
// one, else on the category groups.
func grantForGroup(doc *policies.Document, grants []policies.Grant, group policies.GroupID) *policies.Grant {
	for {
		if g := grantOn(grants, "group", string(group)); g != nil {
			return g
		}
		this := find(doc.Groups, func(x policies.Group) bool { return x.ID == group })
		if this.Parent == nil {
			return grantOn(grants, "groups", string(doc.Account.ID))
		}
		group = *this.Parent
	}
}

func grantOn(grants []policies.Grant, kind, id string) *policies.Grant {
	return find(grants, func(g policies.Grant) bool {
		return string(g.Resource.Type) == kind && g.Resource.ID == id
	})
}

func rolesOf(doc *policies.Document, grants []policies.Grant) []policies.Role {
	var roles []policies.Role
	for _, r := range doc.Roles {
		for _, g := range grants {
			if slices.Contains(g.Roles, r.ID) {
				roles = append(roles, r)
				break
			}
		}
	}
	return roles
}

func names(roles []policies.Role) []string {
	list := []string{}
	for _, r := range roles {
		list = append(list, r.Name)
	}
	slices.Sort(list)
	return list
}

func (m Model) policiesOf(doc *policies.Document, roles []policies.Role) []policies.Policy {
	var of []policies.Policy
	for _, p := range m.allPolicies(doc) {
		for _, r := range roles {
			if slices.Contains(r.Policies, p.ID) {
				of = append(of, p)
				break
			}
		}
	}
	return of
}

func allows(p policies.Policy, q Question) bool {
	return slices.Contains(p.Actions, policies.ActionName(q.Action)) &&
		slices.Contains(p.Resources, policies.ResourceType(q.ResourceType))
}

func earliestEnd(grants []policies.Grant) string {
	var end *time.Time
	for _, g := range grants {
		if g.ExpiresAt != nil && (end == nil || g.ExpiresAt.Before(*end)) {
			end = g.ExpiresAt
		}
	}
	if end == nil {
		return ""
	}
	return policies.FormatTime(*end)
}

func find[T any](list []T, is func(T) bool) *T {
	for i := range list {
		if is(list[i]) {
			return &list[i]
		}
	}
	return nil
}
