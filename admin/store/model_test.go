package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// model is the whole platform as plain Go values: slow, short, and written from
// domain.md, for the store to be held against. Its methods give the error that the
// store must give, as outcome says it; "" is success.
type model struct {
	told     []modelNotice
	now      time.Time
	accounts map[policies.AccountID]policies.Account
	owners   map[policies.AccountID]*modelOwner
	records  map[policies.CollaborationID]*modelRecord
	ttl      time.Duration
}

type modelOwner struct {
	groups       map[policies.GroupID]policies.Group
	environments map[policies.EnvironmentID]policies.Environment
	policies     map[policies.PolicyID]policies.Policy
	roles        map[policies.RoleID]policies.Role
}

type modelRecord struct {
	made    int // which it is, in the order in which they were made
	id      policies.CollaborationID
	owner   policies.AccountID
	email   string
	account *policies.AccountID
	bound   bool
	name    string
	status  policies.Status
	ends    time.Time
	changed time.Time
	grants  map[policies.Resource]policies.Grant
}

// modelNotice is what the other side is told.
type modelNotice struct {
	kind   store.NoticeKind
	record *modelRecord // whose id may not be known yet
}

// tells is what each event tells.
var tells = map[policies.Event]store.NoticeKind{
	policies.EventInvite: store.NoticeInvited, policies.EventResend: store.NoticeResent, policies.EventAccept: store.NoticeAccepted,
	policies.EventReject: store.NoticeRejected, policies.EventLeave: store.NoticeLeft, policies.EventSuspend: store.NoticeSuspended,
	policies.EventActivate: store.NoticeActivated, policies.EventRemove: store.NoticeRemoved,
}

func newModel(now time.Time, ttl time.Duration) *model {
	return &model{
		now: now, ttl: ttl, accounts: map[policies.AccountID]policies.Account{}, owners: map[policies.AccountID]*modelOwner{},
		records: map[policies.CollaborationID]*modelRecord{},
	}
}

// outcome says an error in a word.
func outcome(err error) string {
	var invalid *policies.InvalidError
	var notFound *policies.NotFoundError
	var state *policies.StateError
	var inUse *policies.InUseError
	var taken *policies.TakenError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &invalid):
		return "invalid " + invalid.Errors[0].Field
	case errors.As(err, &notFound):
		return "not found " + notFound.Kind
	case errors.As(err, &state):
		return fmt.Sprintf("state %s %s", state.Status, state.Event)
	case errors.As(err, &inUse):
		return fmt.Sprintf("in use %d", inUse.Count)
	case errors.As(err, &taken):
		return "taken " + taken.Field
	default:
		return "unexpected: " + err.Error()
	}
}

func (m *model) holder(email string) (policies.AccountID, bool) {
	for id, a := range m.accounts {
		if policies.EmailKey(a.Email) == policies.EmailKey(email) {
			return id, true
		}
	}
	return "", false
}

func is(p *policies.AccountID, id policies.AccountID) bool { return p != nil && *p == id }

// follow gives the records that are not bound to whoever has their address.
func (m *model) follow() {
	for _, r := range m.records {
		if r.account != nil && r.bound {
			if a := m.accounts[*r.account]; r.email != a.Email {
				r.email, r.changed = a.Email, m.now
			}
		}
		if r.bound || r.status == policies.StatusRemoved || r.account == nil {
			continue
		}
		if holder, held := m.holder(r.email); !held || *r.account != holder {
			r.account, r.changed = nil, m.now
		}
	}
	for _, r := range m.records {
		holder, held := m.holder(r.email)
		if r.bound || r.status == policies.StatusRemoved || r.account != nil || !held {
			continue
		}
		var removed *modelRecord
		live := holder == r.owner
		for _, o := range m.records {
			if o.owner == r.owner && is(o.account, holder) {
				if o.status == policies.StatusRemoved {
					removed = o
				} else {
					live = true
				}
			}
		}
		if live {
			r.status, r.grants, r.changed = policies.StatusRemoved, map[policies.Resource]policies.Grant{}, m.now
			continue
		}
		if removed != nil {
			removed.account, removed.bound, removed.changed = nil, false, m.now
		}
		r.account, r.changed = &holder, m.now
	}
}

func (m *model) putAccount(a policies.Account) string {
	if holder, held := m.holder(a.Email); held && holder != a.ID {
		return "taken email"
	}
	m.accounts[a.ID] = a
	if m.owners[a.ID] == nil {
		m.owners[a.ID] = &modelOwner{
			map[policies.GroupID]policies.Group{}, map[policies.EnvironmentID]policies.Environment{},
			map[policies.PolicyID]policies.Policy{}, map[policies.RoleID]policies.Role{},
		}
	}
	m.follow()
	return ""
}

func (m *model) deleteAccount(id policies.AccountID) string {
	if _, there := m.accounts[id]; !there {
		return "not found account"
	}
	delete(m.accounts, id)
	delete(m.owners, id)
	for key, r := range m.records {
		switch {
		case r.owner == id:
			delete(m.records, key)
		case is(r.account, id):
			r.status, r.account, r.bound, r.grants, r.changed = policies.StatusRemoved, nil, false, map[policies.Resource]policies.Grant{}, m.now
		}
	}
	return ""
}

// dropGrants ends all grants of an owner on a resource.
func (m *model) dropGrants(owner policies.AccountID, resource policies.Resource) {
	for _, r := range m.records {
		if _, there := r.grants[resource]; r.owner == owner && there {
			delete(r.grants, resource)
			r.changed = m.now
		}
	}
}

func (m *model) putGroup(owner policies.AccountID, g policies.Group) string {
	if g.Parent != nil && *g.Parent == g.ID {
		return "invalid parent"
	}
	o, there := m.owners[owner]
	if !there {
		return "not found account"
	}
	for id, other := range m.owners {
		if _, has := other.groups[g.ID]; has && id != owner {
			return "taken id"
		}
	}
	for p := g.Parent; p != nil; p = o.groups[*p].Parent {
		if _, known := o.groups[*p]; !known || *p == g.ID {
			return "invalid parent"
		}
	}
	for _, other := range o.groups {
		if other.ID != g.ID && samePlace(other.Parent, g.Parent) && policies.NameKey(other.Name) == policies.NameKey(g.Name) {
			return "taken name"
		}
	}
	o.groups[g.ID] = g
	return ""
}

func samePlace(a, b *policies.GroupID) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (m *model) deleteGroup(owner policies.AccountID, id policies.GroupID) string {
	o := m.owners[owner]
	if o == nil {
		return "not found group"
	}
	g, there := o.groups[id]
	if !there {
		return "not found group"
	}
	for _, child := range o.groups {
		for _, other := range o.groups {
			if is := child.Parent != nil && *child.Parent == id; is && other.ID != id && other.ID != child.ID &&
				samePlace(other.Parent, g.Parent) && policies.NameKey(other.Name) == policies.NameKey(child.Name) {
				return "taken name"
			}
		}
	}
	delete(o.groups, id)
	for key, child := range o.groups {
		if child.Parent != nil && *child.Parent == id {
			child.Parent = g.Parent
			o.groups[key] = child
		}
	}
	for key, e := range o.environments {
		if slices.Contains(e.Groups, id) {
			e.Groups = slices.DeleteFunc(slices.Clone(e.Groups), func(x policies.GroupID) bool { return x == id })
			if g.Parent != nil {
				e.Groups = append(e.Groups, *g.Parent)
			}
			o.environments[key] = e.Normalize()
		}
	}
	m.dropGrants(owner, policies.Resource{Type: policies.TypeGroup, ID: string(id)})
	return ""
}

func (m *model) putEnvironment(owner policies.AccountID, e policies.Environment) string {
	o, there := m.owners[owner]
	if !there {
		return "not found account"
	}
	for id, other := range m.owners {
		if _, has := other.environments[e.ID]; has && id != owner {
			return "taken id"
		}
	}
	for i, g := range e.Groups {
		if _, known := o.groups[g]; !known {
			return fmt.Sprintf("invalid groups[%d]", i)
		}
	}
	o.environments[e.ID] = e.Normalize()
	return ""
}

func (m *model) deleteEnvironment(owner policies.AccountID, id policies.EnvironmentID) string {
	o := m.owners[owner]
	if o == nil {
		return "not found environment"
	}
	if _, there := o.environments[id]; !there {
		return "not found environment"
	}
	delete(o.environments, id)
	m.dropGrants(owner, policies.Resource{Type: policies.TypeEnvironment, ID: string(id)})
	return ""
}

func (m *model) transfer(owner policies.AccountID, id policies.EnvironmentID, to policies.AccountID) string {
	o := m.owners[owner]
	if o == nil {
		return "not found environment"
	}
	e, there := o.environments[id]
	if !there {
		return "not found environment"
	}
	if m.owners[to] == nil {
		return "invalid to"
	}
	if to == owner {
		return ""
	}
	m.deleteEnvironment(owner, id)
	return m.putEnvironment(to, policies.Environment{ID: id, Name: e.Name})
}

func (m *model) createPolicy(owner policies.AccountID, p policies.Policy) string {
	o, there := m.owners[owner]
	if !there {
		return "not found account"
	}
	if _, taken := o.policies[p.ID]; taken {
		return "taken id"
	}
	o.policies[p.ID] = p.Normalize()
	return ""
}

func (m *model) deletePolicy(owner policies.AccountID, id policies.PolicyID, force bool) string {
	o := m.owners[owner]
	if o == nil {
		return "not found policy"
	}
	if _, there := o.policies[id]; !there {
		return "not found policy"
	}
	uses := 0
	for _, r := range o.roles {
		if slices.Contains(r.Policies, id) {
			uses++
		}
	}
	if uses > 0 && !force {
		return fmt.Sprintf("in use %d", uses)
	}
	delete(o.policies, id)
	for key, r := range o.roles {
		r.Policies = slices.DeleteFunc(slices.Clone(r.Policies), func(p policies.PolicyID) bool { return p == id })
		o.roles[key] = r
	}
	return ""
}

// putRole makes or changes a role.
func (m *model) putRole(owner policies.AccountID, role policies.Role, create bool) string {
	o := m.owners[owner]
	if o == nil && create {
		return "not found account"
	} else if o == nil {
		return "not found role"
	}
	_, there := o.roles[role.ID]
	switch {
	case there && create:
		return "taken id"
	case !there && !create:
		return "not found role"
	}
	for i, p := range role.Policies {
		if _, custom := o.policies[p]; !custom && p != "environment.view" {
			return fmt.Sprintf("invalid policies[%d]", i)
		}
	}
	for _, other := range o.roles {
		if other.ID != role.ID && (policies.NameKey(other.Name) == policies.NameKey(role.Name) || string(other.ID) == role.Name) {
			return "taken name"
		}
		if other.ID != role.ID && other.Name == string(role.ID) {
			return "taken id"
		}
	}
	o.roles[role.ID] = role.Normalize()
	return ""
}

func (m *model) deleteRole(owner policies.AccountID, id policies.RoleID, force bool) string {
	o := m.owners[owner]
	if o == nil {
		return "not found role"
	}
	if _, there := o.roles[id]; !there {
		return "not found role"
	}
	uses := 0
	for _, r := range m.records {
		for _, g := range r.grants {
			if r.owner == owner && slices.Contains(g.Roles, id) {
				uses++
			}
		}
	}
	if uses > 0 && !force {
		return fmt.Sprintf("in use %d", uses)
	}
	delete(o.roles, id)
	for _, r := range m.records {
		for key, g := range r.grants {
			if r.owner == owner && slices.Contains(g.Roles, id) {
				g.Roles = slices.DeleteFunc(slices.Clone(g.Roles), func(x policies.RoleID) bool { return x == id })
				r.grants[key], r.changed = g, m.now
				if len(g.Roles) == 0 {
					delete(r.grants, key)
				}
			}
		}
	}
	return ""
}

// checkGrants holds grants against the owner's objects, and resolves their roles.
func (m *model) checkGrants(owner policies.AccountID, grants []policies.Grant, prefix string) ([]policies.Grant, string) {
	o := m.owners[owner]
	var checked []policies.Grant
	for i, g := range grants {
		at := "invalid "
		if prefix != "" {
			at += fmt.Sprintf("%s[%d].", prefix, i)
		}
		known := g.Resource.ID == string(owner)
		switch g.Resource.Type {
		case policies.TypeEnvironment:
			_, known = o.environments[policies.EnvironmentID(g.Resource.ID)]
		case policies.TypeGroup:
			_, known = o.groups[policies.GroupID(g.Resource.ID)]
		default:
		}
		if !known {
			return nil, at + "resource.id"
		}
		g.Roles = slices.Clone(g.Roles)
		for j, ref := range g.Roles {
			if _, known := o.roles[ref]; known {
				continue
			}
			g.Roles[j] = ""
			for id, role := range o.roles {
				if policies.NameKey(role.Name) == policies.NameKey(string(ref)) {
					g.Roles[j] = id
				}
			}
			if g.Roles[j] == "" {
				return nil, fmt.Sprintf("%sroles[%d]", at, j)
			}
		}
		if g.ExpiresAt != nil && !g.ExpiresAt.After(m.now) {
			return nil, at + "expires_at"
		}
		checked = append(checked, g.Normalize())
	}
	return checked, ""
}

// status is what the clock has made of a record.
func (m *model) status(r *modelRecord) policies.Status {
	if r.status == policies.StatusPending && !m.now.Before(r.ends) {
		return policies.StatusExpired
	}
	return r.status
}

func (m *model) event(r *modelRecord, event policies.Event) string {
	next, err := policies.Next(r.id, m.status(r), event)
	if err != nil {
		return outcome(err)
	}
	if r.status == policies.StatusRemoved && event == policies.EventRemove {
		return ""
	}
	m.told = append(m.told, modelNotice{tells[event], r})
	r.status, r.changed = next, m.now
	if next == policies.StatusPending {
		r.ends = m.now.Add(m.ttl)
	}
	if event == policies.EventRemove {
		r.grants = map[policies.Resource]policies.Grant{}
	}
	return ""
}

// ofOwner finds a record as its owner does, asMember as its member does.
func (m *model) ofOwner(owner policies.AccountID, id policies.CollaborationID) (*modelRecord, string) {
	if r := m.records[id]; r != nil && r.owner == owner {
		return r, ""
	}
	return nil, "not found member"
}

func (m *model) asMember(account policies.AccountID, id policies.CollaborationID) (*modelRecord, string) {
	if r := m.records[id]; r != nil && is(r.account, account) {
		return r, ""
	}
	return nil, "not found collaboration"
}

func (m *model) accept(account policies.AccountID, id policies.CollaborationID) string {
	r, problem := m.asMember(account, id)
	if problem == "" {
		problem = m.event(r, policies.EventAccept)
	}
	if problem == "" {
		r.bound, r.email = true, m.accounts[account].Email
	}
	return problem
}

// invite gives the record that an invitation is about; a new one has no id yet.
func (m *model) invite(owner policies.AccountID, email string, name *string, grants []policies.Grant, replace bool) (*modelRecord, string) {
	if m.owners[owner] == nil {
		return nil, "not found account"
	}
	if policies.EmailKey(m.accounts[owner].Email) == policies.EmailKey(email) {
		return nil, "invalid email"
	}
	grants, problem := m.checkGrants(owner, grants, "grants")
	if problem != "" {
		return nil, problem
	}
	holder, held := m.holder(email)
	var candidates []*modelRecord
	for _, r := range m.records {
		if r.owner == owner && (held && is(r.account, holder) || r.account == nil && policies.EmailKey(r.email) == policies.EmailKey(email)) {
			candidates = append(candidates, r)
		}
	}
	sort.Slice(candidates, func(i, j int) bool {
		a, b := candidates[i], candidates[j]
		if x, y := a.status == policies.StatusRemoved, b.status == policies.StatusRemoved; x != y {
			return y
		}
		if x, y := a.account == nil, b.account == nil; x != y {
			return y
		}
		if !a.changed.Equal(b.changed) {
			return a.changed.After(b.changed)
		}
		return a.id < b.id
	})
	r := &modelRecord{owner: owner, email: policies.NormalizeName(email), grants: map[policies.Resource]policies.Grant{}, status: policies.StatusNone}
	if len(candidates) > 0 {
		r = candidates[0]
	}
	was := r.status
	if problem := m.event(r, policies.EventInvite); problem != "" {
		return nil, problem
	}
	if (was == policies.StatusRemoved || was == policies.StatusNone) && held {
		r.account = &holder
	}
	if was == policies.StatusRemoved {
		r.name = ""
		if !r.bound {
			r.email = policies.NormalizeName(email)
		}
	}
	if name != nil {
		r.name = *name
	}
	if !replace {
		maps.DeleteFunc(r.grants, func(_ policies.Resource, g policies.Grant) bool {
			return g.ExpiresAt != nil && !m.now.Before(*g.ExpiresAt)
		})
		return r, ""
	}
	r.grants = map[policies.Resource]policies.Grant{}
	for _, g := range grants {
		r.grants[g.Resource] = g
	}
	return r, ""
}

// setGrants makes grants all that a record has, or, with keep, adds them.
func (m *model) setGrants(r *modelRecord, grants []policies.Grant, prefix string, keep bool) string {
	if r.status == policies.StatusRemoved {
		return fmt.Sprintf("state %s grant", r.status)
	}
	grants, problem := m.checkGrants(r.owner, grants, prefix)
	if problem != "" {
		return problem
	}
	next := map[policies.Resource]policies.Grant{}
	if keep {
		next = maps.Clone(r.grants)
	}
	for _, g := range grants {
		next[g.Resource] = g
	}
	if !maps.EqualFunc(r.grants, next, func(a, b policies.Grant) bool {
		return slices.Equal(a.Roles, b.Roles) && (a.ExpiresAt == nil) == (b.ExpiresAt == nil) && (a.ExpiresAt == nil || a.ExpiresAt.Equal(*b.ExpiresAt))
	}) {
		r.grants, r.changed = next, m.now
	}
	return ""
}

// document is what export must give.
func (m *model) document(owner policies.AccountID) policies.Document {
	o := m.owners[owner]
	d := policies.Document{
		Account: m.accounts[owner], Groups: slices.Collect(maps.Values(o.groups)), Environments: slices.Collect(maps.Values(o.environments)),
		Policies: slices.Collect(maps.Values(o.policies)), Roles: slices.Collect(maps.Values(o.roles)),
	}
	for _, r := range m.records {
		if r.owner != owner || r.status == policies.StatusRemoved {
			continue
		}
		dm := policies.DocumentMember{
			Account: policies.DocumentAccount{ID: r.account, Email: r.email}, DisplayName: r.name, Status: r.status,
			Grants: slices.Collect(maps.Values(r.grants)),
		}
		if r.account != nil {
			dm.Account.Email, dm.Account.DisplayName = m.accounts[*r.account].Email, m.accounts[*r.account].DisplayName
		}
		d.Members = append(d.Members, dm)
	}
	return d.Normalize()
}
