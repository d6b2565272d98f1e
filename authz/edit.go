package authz

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

// edit makes the next state from objects. What it has forked or made itself it
// may write to; all else belongs to published states.
type edit struct {
	next     *State
	fresh    bool                            // a part builds next: all of it is ours, nothing was published yet
	last     *Account                        // that a part is at
	tables   Account                         // empty ones with room, for the next account of a part
	giving   *member                         // of last, whose grants a part is at
	tabled   grants                          // empty ones with room, for the next member of a part
	unsure   []policies.Object               // that a part made before what they name was there
	accounts map[policies.AccountID]*Account // ours to write to
	members  map[*member]struct{}            // ours to write to
	bodies   bodies
	room     *room // of new ids
}

func newEdit(next *State) *edit {
	return &edit{next: next, accounts: map[policies.AccountID]*Account{}, members: map[*member]struct{}{}, bodies: newBodies()}
}

// kindOrder is the order in which objects are put, each after those it refers
// to; they are deleted in the reverse order.
var kindOrder = []policies.Kind{
	policies.KindPolicyInForce, policies.KindToken, policies.KindAccount, policies.KindGroup, policies.KindEnvironment,
	policies.KindPolicy, policies.KindRole, policies.KindMember, policies.KindGrant,
}

// apply does all of a change's objects, so that their order in it does not
// matter: what is deleted goes first (an environment leaves its old owner before
// it comes to the new one), then what the puts replace lets go of what is unique
// (two members may swap accounts), then all is put.
func (e *edit) apply(objects []policies.Object) error {
	objects = slices.Clone(objects)
	if err := wellFormed(objects); err != nil {
		return err
	}
	slices.SortStableFunc(objects, func(a, b policies.Object) int { return rank(a) - rank(b) })
	put := slices.IndexFunc(objects, func(o policies.Object) bool { return !o.Deleted() })
	if put < 0 {
		put = len(objects)
	}
	for _, o := range objects[:put] {
		if err := e.remove(o); err != nil {
			return err
		}
	}
	for _, o := range objects[put:] {
		e.release(o)
	}
	for _, o := range objects[put:] {
		if err := e.put(o); err != nil {
			return err
		}
	}
	for _, o := range objects[put:] {
		if err := e.next.verify(o); err != nil {
			return err
		}
	}
	return nil
}

func rank(o policies.Object) int {
	at := slices.Index(kindOrder, o.Kind)
	if o.Deleted() {
		return -at - 1
	}
	return at
}

// wellFormed refuses kinds that are not known, and two objects for one thing,
// which would make the result depend on their order.
func wellFormed(objects []policies.Object) error {
	type key struct {
		kind  policies.Kind
		owner policies.AccountID
		id    string
	}
	seen := make(map[key]struct{}, len(objects))
	for _, o := range objects {
		if !slices.Contains(kindOrder, o.Kind) {
			return fault(o, "is of a kind that is not known here")
		}
		k := key{o.Kind, o.Owner, o.ID}
		if _, ok := seen[k]; ok {
			return fault(o, "stands twice in one change")
		}
		seen[k] = struct{}{}
	}
	return nil
}

func fault(o policies.Object, format string, args ...any) error {
	return &ObjectError{Kind: o.Kind, Owner: o.Owner, ID: o.ID, Reason: fmt.Sprintf(format, args...)}
}

// account gives the owner's account to write to, marked as touched.
func (e *edit) account(owner policies.AccountID) (*Account, bool) {
	if e.fresh {
		return e.own(owner)
	}
	if a, ok := e.accounts[owner]; ok {
		return a, true
	}
	published, ok := e.next.accounts.get(owner)
	if !ok {
		return nil, false
	}
	a := published.fork()
	a.changed = e.next.header.Revision
	e.keep(a)
	return a, true
}

// own gives the owner's account while it is built. Objects of one account mostly come
// one after the other.
func (e *edit) own(owner policies.AccountID) (*Account, bool) {
	if e.last != nil && e.last.ID() == owner {
		return e.last, true
	}
	a, ok := e.next.accounts.get(owner)
	if ok {
		e.leave()
		e.last = a
	}
	return a, ok
}

// leave packs the account that a part is at.
func (e *edit) leave() {
	e.giveTo(nil)
	if e.last != nil {
		e.tables = e.last.pack()
		e.last = nil
	}
}

// giveTo begins with the grants of m, and packs those of the member before. A member's
// grants mostly come one after the other.
func (e *edit) giveTo(m *member) {
	if had := e.giving; had != nil {
		e.tabled.environments, e.tabled.groups = had.grants.environments.pack(), had.grants.groups.pack()
	}
	if e.giving = m; m != nil && m.grants.none() {
		m.grants, e.tabled = e.tabled, grants{}
	}
}

func (e *edit) keep(a *Account) {
	if !e.fresh {
		e.accounts[a.ID()] = a
	}
	e.next.accounts.set(a.id, a)
}

// member gives a member record of a to write to, marked as touched.
func (e *edit) member(a *Account, id policies.CollaborationID) (*member, bool) {
	published, ok := a.members.get(id)
	if !ok {
		return nil, false
	}
	m := published
	if _, ours := e.members[m]; !ours && !e.fresh {
		m = &member{id: published.id, account: published.account, mark: published.mark, grants: published.grants.fork()}
		e.members[m] = struct{}{}
		a.members.set(m.id, m)
		if m.account.string() != "" {
			a.subjects.set(m.account, m)
		}
	}
	m.mark = m.mark.at(e.next.header.Revision)
	return m, true
}

// keep is the text that a table has for id, or a new one, and whether it has it.
func keep[K ~string, V any](e *edit, in table[K, V], id K) (kept text[K], known bool) {
	if found, ok := in.find(id); ok {
		return found.key, true
	}
	return newText(e.room, id), false
}

// touchAll starts all results at this owner anew.
func (e *edit) touchAll(a *Account) { a.all = e.next.header.Revision }

// release lets what o replaces go of what is unique on the platform or within
// the owner.
func (e *edit) release(o policies.Object) {
	switch o.Kind {
	case policies.KindToken:
		e.removeToken(o.ID)
	case policies.KindMember:
		if a, ok := e.account(o.Owner); ok {
			if m, ok := e.member(a, policies.CollaborationID(o.ID)); ok {
				a.subjects.remove(m.account.string())
			}
		}
	default:
	}
}

func (e *edit) put(o policies.Object) error {
	switch o.Kind {
	case policies.KindPolicyInForce:
		return nil // compiled by who called, with a context
	case policies.KindToken:
		return e.putToken(o)
	case policies.KindAccount:
		return e.putAccount(o)
	default:
	}
	a, ok := e.account(o.Owner)
	if !ok {
		return fault(o, "the owner does not exist")
	}
	switch o.Kind {
	case policies.KindGroup:
		return e.putGroup(a, o)
	case policies.KindEnvironment:
		return e.putEnvironment(a, o)
	case policies.KindPolicy:
		return e.putPolicy(a, o)
	case policies.KindRole:
		return e.putRole(a, o)
	case policies.KindMember:
		return e.putMember(a, o)
	case policies.KindGrant:
		return e.putGrant(a, o)
	default:
		return fault(o, "is of a kind that is not known here")
	}
}

func decodeBody[T any](o policies.Object) (T, error) {
	var body T
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return body, unreadable(o, err)
	}
	return body, nil
}

// readBody is decodeBody for what there are millions of.
func readBody[T any](o policies.Object, read func(string) (T, error)) (T, error) {
	body, err := read(string(o.Body))
	if err != nil {
		return body, unreadable(o, err)
	}
	return body, nil
}

func unreadable(o policies.Object, err error) error { return fault(o, "cannot be read: %v", err) }

func (e *edit) putToken(o policies.Object) error {
	body, err := decodeBody[policies.TokenBody](o)
	if err != nil {
		return err
	}
	if other, ok := e.next.tokenHashes.get(body.Hash); ok {
		return fault(o, "has the hash of token %q", other.ID)
	}
	t := &Token{ID: o.ID, Hash: body.Hash, Scopes: body.Scopes, ExpiresAt: body.ExpiresAt}
	e.next.tokens.set(newText(e.room, t.ID), t)
	e.next.tokenHashes.set(newText(e.room, t.Hash), t)
	return nil
}

func (e *edit) putAccount(o policies.Object) error {
	id := policies.AccountID(o.ID)
	if id == "" {
		return fault(o, "has no id")
	}
	a, ok := e.account(id)
	if !ok {
		e.leave()
		a = new(e.tables)
		a.id, a.changed = newText(e.room, id), e.next.header.Revision
		e.tables = Account{}
		e.keep(a)
	}
	e.touchAll(a)
	return nil
}

func (e *edit) putGroup(a *Account, o policies.Object) error {
	body, err := readBody(o, policies.ReadGroupBody)
	if err != nil {
		return err
	}
	id, known := keep(e, a.groups, policies.GroupID(o.ID))
	if other, ok := e.next.groups.get(id.string()); ok && !known {
		return fault(o, "belongs to %q", other.string())
	}
	var parent text[policies.GroupID]
	if body.Parent != nil {
		parent = a.groups.text(*body.Parent)
	}
	a.groups.set(id, parent)
	if !e.fresh {
		e.next.groups.set(id, a.id)
	}
	e.touchAll(a)
	return nil
}

func (e *edit) putEnvironment(a *Account, o policies.Object) error {
	id, known := keep(e, a.environments, policies.EnvironmentID(o.ID))
	if other, ok := e.next.environments.get(id.string()); ok && !known {
		return fault(o, "belongs to %q", other.string())
	}
	made, err := like(e.bodies.of(o).environments, o, policies.ReadEnvironmentBody, func(body policies.EnvironmentBody) *environment {
		same(a.groups, body.Groups)
		made := &environment{groups: body.Groups, changed: e.next.header.Revision}
		e.made(o, a.verifyEnvironment(made))
		return made
	})
	if err != nil {
		return err
	}
	a.environments.set(id, made)
	if !e.fresh {
		e.next.environments.set(id, a.id)
	}
	return nil
}

func (e *edit) putPolicy(a *Account, o policies.Object) error {
	body, err := decodeBody[policies.PolicyBody](o)
	if err != nil {
		return err
	}
	id := policies.PolicyID(o.ID)
	a.dropPolicy(id)
	if a.custom == nil {
		a.custom = &custom{}
	}
	for _, action := range body.Actions {
		count, _ := a.custom.actions.get(action)
		a.custom.actions.set(a.custom.actions.text(action), count+1)
	}
	a.custom.policies.set(newText(e.room, id), &customPolicy{resources: body.Resources, actions: body.Actions})
	e.touchAll(a)
	return nil
}

// dropPolicy takes a custom policy and the actions that only it names away.
func (a *Account) dropPolicy(id policies.PolicyID) {
	old, ok := a.own().policies.get(id)
	if !ok {
		return
	}
	own := a.custom
	own.policies.remove(id)
	for _, action := range old.actions {
		if count, _ := own.actions.get(action); count > 1 {
			own.actions.set(own.actions.text(action), count-1)
		} else {
			own.actions.remove(action)
		}
	}
	if own.policies.len() == 0 {
		a.custom = nil
	}
}

func (e *edit) putRole(a *Account, o policies.Object) error {
	made, err := like(e.bodies.roles, o, policies.ReadRoleBody, func(body policies.RoleBody) *role {
		return &role{name: body.Name, policies: slices.Clip(body.Policies), receiveLoadAlerts: body.ReceiveLoadAlerts}
	})
	if err != nil {
		return err
	}
	id, _ := keep(e, a.roles, policies.RoleID(o.ID))
	a.roles.set(id, made)
	e.touchAll(a)
	return nil
}

func (e *edit) putMember(a *Account, o policies.Object) error {
	body, err := readBody(o, policies.ReadMemberBody)
	if err != nil {
		return err
	}
	mark, known := newMark(e.next.header.Revision, body.Status)
	if !known {
		return fault(o, "has the status %q, which is not known here", body.Status)
	}
	var account policies.AccountID
	if body.Account != nil {
		account = *body.Account
	}
	m, existed := e.member(a, policies.CollaborationID(o.ID))
	if !existed {
		m = &member{id: newText(e.room, policies.CollaborationID(o.ID))}
		if !e.fresh {
			e.members[m] = struct{}{}
		}
		a.members.set(m.id, m)
	}
	if had := m.account.string(); had != "" && had != account {
		e.touchAll(a) // nothing of the account it had is left to carry a revision
	}
	m.account, m.mark = e.next.accounts.text(account), mark
	if account == "" {
		return nil
	}
	if other, ok := a.subjects.get(account); ok && other != m {
		return fault(o, "is of account %q, which has the record %q already", account, other.id.string())
	}
	a.subjects.set(m.account, m)
	return nil
}

func (e *edit) putGrant(a *Account, o policies.Object) error {
	key, err := policies.ParseGrantKey(o.ID)
	if err != nil {
		return fault(o, "%v", err)
	}
	m, ok := e.member(a, key.Member)
	if !ok {
		return fault(o, "the member does not exist")
	}
	if !a.has(key.Resource) {
		return fault(o, "the owner has no such resource")
	}
	_, err = e.give(a, m, key.Resource, o)
	return err
}

// give puts the grant o on a resource that a has, and tells whether there was none.
func (e *edit) give(a *Account, m *member, on policies.Resource, o policies.Object) (added bool, err error) {
	made, err := like(e.bodies.of(o).grants, o, policies.ReadGrantBody, func(body policies.GrantBody) *grant {
		same(a.roles, body.Roles)
		made := &grant{roles: body.Roles, ends: body.ExpiresAt}
		e.made(o, a.verifyRoles(made))
		return made
	})
	if err != nil {
		return false, err
	}
	return m.grants.set(a, on, made), nil
}

// made notes what was made of o's body, for all whose bodies are alike, and what is
// wrong with it so far; empty: nothing. A change verifies all of its objects.
func (e *edit) made(o policies.Object, reason string) {
	if e.fresh && reason != "" {
		e.unsure = append(e.unsure, o)
	}
}

// remove deletes one object. What is not there is gone already.
func (e *edit) remove(o policies.Object) error {
	switch o.Kind {
	case policies.KindPolicyInForce:
		return fault(o, "cannot be deleted")
	case policies.KindToken:
		e.removeToken(o.ID)
		return nil
	case policies.KindAccount:
		e.removeAccount(policies.AccountID(o.ID))
		return nil
	default:
	}
	a, ok := e.account(o.Owner)
	if !ok {
		return nil
	}
	switch o.Kind {
	case policies.KindGroup:
		e.removeGroup(a, policies.GroupID(o.ID))
	case policies.KindEnvironment:
		e.removeEnvironment(a, policies.EnvironmentID(o.ID))
	case policies.KindPolicy:
		a.dropPolicy(policies.PolicyID(o.ID))
		e.touchAll(a)
	case policies.KindRole:
		a.roles.remove(policies.RoleID(o.ID))
		e.touchAll(a)
	case policies.KindMember:
		e.removeMember(a, policies.CollaborationID(o.ID))
	case policies.KindGrant:
		return e.removeGrant(a, o)
	default:
		return fault(o, "is of a kind that is not known here")
	}
	return nil
}

func (e *edit) removeToken(id string) {
	if old, ok := e.next.tokens.get(id); ok {
		e.next.tokens.remove(id)
		e.next.tokenHashes.remove(old.Hash)
	}
}

// removeAccount takes what is left of the account with it.
func (e *edit) removeAccount(id policies.AccountID) {
	a, ok := e.next.accounts.get(id)
	if !ok {
		return
	}
	for environment := range a.environments.all() {
		e.next.environments.remove(environment)
	}
	for group := range a.groups.all() {
		e.next.groups.remove(group)
	}
	e.next.accounts.remove(id)
	delete(e.accounts, id)
}

func (e *edit) removeGroup(a *Account, id policies.GroupID) {
	if _, ok := a.groups.get(id); ok {
		a.groups.remove(id)
		e.next.groups.remove(id)
		e.touchAll(a)
	}
}

// removeEnvironment needs no mark: without an owner its results cannot be used,
// and made again it is newer than they are.
func (e *edit) removeEnvironment(a *Account, id policies.EnvironmentID) {
	if _, ok := a.environments.get(id); ok {
		a.environments.remove(id)
		e.next.environments.remove(id)
	}
}

func (e *edit) removeMember(a *Account, id policies.CollaborationID) {
	m, ok := a.members.get(id)
	if !ok {
		return
	}
	a.members.remove(id)
	if account := m.account.string(); account != "" {
		a.subjects.remove(account)
		e.touchAll(a) // no record is left to carry the revision
	}
}

func (e *edit) removeGrant(a *Account, o policies.Object) error {
	key, err := policies.ParseGrantKey(o.ID)
	if err != nil {
		return fault(o, "%v", err)
	}
	if m, ok := e.member(a, key.Member); ok && (!key.Resource.Type.IsCategory() || key.Resource.ID == string(a.ID())) {
		m.grants.remove(key.Resource)
	}
	return nil
}
