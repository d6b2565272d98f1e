package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/usher-authz/usher/policies"
)

// importPlan is what the documents of a batch change, worked out from a view.
type importPlan struct {
	view      *importView
	batch     []policies.DocumentLine // those that are in the plan
	taken     int                     // how many these are
	now       time.Time
	latest    time.Time // of its revisions, once the lock is held
	documents []*documentPlan
	rows      importRows
	// rests is the transaction of the plan before, if this one rests on it;
	// transaction is the one that applied this one.
	rests, transaction uuid.UUID
}

// documentPlan is one document's part of a plan: its errors, or what it touches.
type documentPlan struct {
	line     policies.DocumentLine
	errs     []policies.FieldError
	draft    draft
	record   *record
	revision policies.Revision // once the lock is held
	// follow are addresses that change hands, which records of other owners wait for
	// or go by; moved is the account whose bound records must get its new address. A
	// document with any of these is in a plan of its own.
	follow []string
	moved  *policies.Account
}

func (d *documentPlan) alone() bool { return len(d.follow) > 0 || d.moved != nil }

// plan works out as many of the first documents of a batch as go together. The view
// is brought up to what it will be after them, and is of no more use. The revisions
// are actor's.
func (s *Store) plan(view *importView, actor Actor, batch []policies.DocumentLine) (*importPlan, error) {
	p := &importPlan{view: view, now: policies.NormalizeTime(s.clock())}
	seen := make(map[policies.AccountID]bool, len(batch))
	for _, line := range batch {
		owner := line.Document.Account.ID
		if seen[owner] || p.rows.makes(owner) && !view.sameAccount(line.Document.Account) {
			break // what this one changes is in the plan already
		}
		seen[owner] = true
		mark := p.rows.mark()
		d := &documentPlan{line: line}
		if d.errs = view.check(line.Document); d.errs == nil {
			if err := p.document(s, d); err != nil {
				return nil, err
			}
		}
		if d.alone() && len(p.documents) > 0 {
			p.rows.cut(mark)
			break
		}
		p.documents = append(p.documents, d)
		p.taken++
		if d.alone() {
			break
		}
		if d.errs == nil {
			view.after(line.Document)
		}
	}
	p.batch = batch[:p.taken]
	for _, d := range p.documents {
		if d.errs != nil || d.alone() {
			continue // what the latter touches is not known yet
		}
		var err error
		if d.record, err = d.draft.imported(p.now, actor, s.rand); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// sameAccount tells whether an account is in the view as a document has it.
func (v *importView) sameAccount(a policies.Account) bool { return v.accounts[a.ID].account() == a }

// check holds a document against what belongs to others, and against the catalogue.
func (v *importView) check(doc policies.Document) []policies.FieldError {
	var errs []policies.FieldError
	add := func(field, reason string) { errs = append(errs, policies.FieldError{Field: field, Reason: reason}) }
	owner := doc.Account.ID
	if holder, ok := v.byKey[policies.EmailKey(doc.Account.Email)]; ok && holder != owner {
		add("account.email", fmt.Sprintf("%q belongs to another account", doc.Account.Email))
	}
	for i, g := range doc.Groups {
		if other, ok := v.groups[g.ID]; ok && other != owner {
			add(fmt.Sprintf("groups[%d].id", i), fmt.Sprintf("%q belongs to another account", g.ID))
		}
	}
	for i, e := range doc.Environments {
		if other, ok := v.environments[e.ID]; ok && other != owner {
			add(fmt.Sprintf("environments[%d].id", i), fmt.Sprintf("%q belongs to another account", e.ID))
		}
	}
	custom := make(map[policies.PolicyID]bool, len(doc.Policies))
	for i, p := range doc.Policies {
		custom[p.ID] = true
		if v.system[p.ID] {
			add(fmt.Sprintf("policies[%d].id", i), fmt.Sprintf("%q is reserved: it is a system policy's", p.ID))
		}
	}
	for i, r := range doc.Roles {
		for j, id := range r.Policies {
			if !custom[id] && !v.system[id] {
				add(fmt.Sprintf("roles[%d].policies[%d]", i, j), fmt.Sprintf("%q is neither a system policy nor a policy of this document", id))
			}
		}
	}
	for i, m := range doc.Members {
		v.checkMember(m.Account, fmt.Sprintf("members[%d].account.", i), owner, add)
	}
	return errs
}

// checkMember holds the account of a member against the one that is known by its id
// or by its address (api.md: known ones are never changed, another email is an error).
func (v *importView) checkMember(a policies.DocumentAccount, at string, owner policies.AccountID, add func(field, reason string)) {
	key := policies.EmailKey(a.Email)
	holder, held := v.byKey[key]
	if a.ID == nil {
		if held && holder == owner {
			add(at+"email", "is the owner's: an account is not a member of itself")
		}
		return
	}
	known, there := v.accounts[*a.ID]
	switch {
	case there && known.EmailKey != key:
		add(at+"email", fmt.Sprintf("%q is not the email of the account %q", a.Email, *a.ID))
	case held && holder != *a.ID:
		add(at+"email", fmt.Sprintf("%q belongs to another account than %q", a.Email, *a.ID))
	}
}

// after brings the view up to what it will be after a document, as far as later
// documents of other owners look at it.
func (v *importView) after(doc policies.Document) {
	v.documents = append(v.documents, doc)
	for _, g := range v.owned[doc.Account.ID].groups {
		delete(v.groups, g.ID)
	}
	for _, e := range v.owned[doc.Account.ID].environments {
		delete(v.environments, e.ID)
	}
	v.put(doc)
}

// put puts what a document has into the view.
func (v *importView) put(doc policies.Document) {
	put := func(a policies.Account) {
		key := policies.EmailKey(a.Email)
		v.accounts[a.ID] = accountRow{ID: a.ID, Email: a.Email, EmailKey: key, DisplayName: a.DisplayName}
		v.byKey[key] = a.ID
	}
	owner := doc.Account.ID
	if old, there := v.accounts[owner]; !there || old.account() != doc.Account {
		delete(v.byKey, old.EmailKey)
		put(doc.Account)
	}
	for _, g := range doc.Groups {
		v.groups[g.ID] = owner
	}
	for _, e := range doc.Environments {
		v.environments[e.ID] = owner
	}
	for _, m := range doc.Members {
		key := policies.EmailKey(m.Account.Email)
		if m.Account.ID == nil {
			if _, held := v.byKey[key]; !held {
				v.waiting[key] = true
			}
			continue
		}
		if _, there := v.accounts[*m.Account.ID]; !there {
			put(policies.Account{ID: *m.Account.ID, Email: m.Account.Email, DisplayName: m.Account.DisplayName})
		}
		v.memberships[*m.Account.ID] = true
	}
}

// document works out what a valid document changes.
func (p *importPlan) document(s *Store, d *documentPlan) error {
	doc, present := d.line.Document, p.view.owned[d.line.Document.Account.ID]
	w := &rowWriter{plan: d, rows: &p.rows, owner: doc.Account.ID}
	p.ownAccount(w, doc.Account)
	p.memberAccounts(w, doc)
	diff(present.groups, doc.Groups, func(r groupRow) policies.GroupID { return r.ID }, func(g policies.Group) policies.GroupID { return g.ID },
		func(old groupRow, g policies.Group) bool { return sameGroup(old.group(), g) }, w.group, w.groupGone)
	diff(present.environments, doc.Environments, func(r environmentRow) policies.EnvironmentID { return r.ID },
		func(e policies.Environment) policies.EnvironmentID { return e.ID },
		func(old environmentRow, e policies.Environment) bool { return sameEnvironment(old.environment(), e) }, w.environment, w.environmentGone)
	diff(present.policies, doc.Policies, func(r policyRow) policies.PolicyID { return r.ID }, func(o policies.Policy) policies.PolicyID { return o.ID },
		func(old policyRow, o policies.Policy) bool { return samePolicy(old.policy(), o) }, w.policy, w.policyGone)
	w.custom = make(map[policies.PolicyID]bool, len(doc.Policies))
	for _, o := range doc.Policies {
		w.custom[o.ID] = true
	}
	diff(present.roles, doc.Roles, func(r roleRow) policies.RoleID { return r.ID }, func(o policies.Role) policies.RoleID { return o.ID },
		func(old roleRow, o policies.Role) bool { return sameRole(old.role(), o) }, w.role, w.roleGone)
	return p.members(s, w, doc, present.members)
}

// diff compares what is there with what a document has, by key.
func diff[R, T any, K comparable](
	present []R, next []T, keyOf func(R) K, key func(T) K, same func(R, T) bool, put func(old *R, t T), gone func(R),
) {
	old := make(map[K]int, len(present))
	for i, r := range present {
		old[keyOf(r)] = i
	}
	kept := make(map[K]bool, len(next))
	for _, t := range next {
		kept[key(t)] = true
		i, there := old[key(t)]
		switch {
		case !there:
			put(nil, t)
		case !same(present[i], t):
			put(&present[i], t)
		}
	}
	for _, r := range present {
		if !kept[keyOf(r)] {
			gone(r)
		}
	}
}

// ownAccount makes or changes the document's own account.
func (p *importPlan) ownAccount(w *rowWriter, a policies.Account) {
	old, there := p.view.accounts[a.ID]
	key := policies.EmailKey(a.Email)
	switch {
	case !there:
		w.account(nil, a, p.now)
		if p.view.waiting[key] {
			w.plan.follow = append(w.plan.follow, key)
		}
	case old.account() != a:
		w.account(&old, a, p.now)
		if old.Email != a.Email && p.view.memberships[a.ID] {
			moved := a
			w.plan.moved = &moved
			w.plan.follow = append(w.plan.follow, old.EmailKey)
		}
		if old.EmailKey != key && p.view.waiting[key] {
			w.plan.follow = append(w.plan.follow, key)
		}
	}
}

// memberAccounts makes the accounts that a document names and nobody knows.
func (p *importPlan) memberAccounts(w *rowWriter, doc policies.Document) {
	for _, m := range doc.Members {
		if m.Account.ID == nil {
			continue
		}
		if _, there := p.view.accounts[*m.Account.ID]; there {
			continue
		}
		w.account(nil, policies.Account{ID: *m.Account.ID, Email: m.Account.Email, DisplayName: m.Account.DisplayName}, p.now)
		if key := policies.EmailKey(m.Account.Email); p.view.waiting[key] {
			w.plan.follow = append(w.plan.follow, key)
		}
	}
}

// members makes the records what the document says: a record that concerns the same
// account, or waits at the same address, keeps its identity; all others go. Removed
// ones that the document does not speak of stay: no document has them, so that
// importing what was exported changes nothing.
func (p *importPlan) members(s *Store, w *rowWriter, doc policies.Document, present []memberRow) error {
	byAccount := make(map[policies.AccountID]int, len(present))
	byKey := make(map[string]int, len(present))
	for i, r := range present {
		if r.Account != nil {
			byAccount[*r.Account] = i
		} else if j, there := byKey[r.EmailKey]; !there || present[j].Status == policies.StatusRemoved {
			byKey[r.EmailKey] = i
		}
	}
	kept := make([]bool, len(present))
	type match struct {
		old  *memberRow
		next memberRow
		m    policies.DocumentMember
	}
	matches := make([]match, 0, len(doc.Members))
	for _, m := range doc.Members {
		key := policies.EmailKey(m.Account.Email)
		account := m.Account.ID
		if holder, held := p.view.byKey[key]; held && account == nil {
			account = &holder
		}
		at, there := -1, false
		if account != nil {
			at, there = lookUp(byAccount, *account)
		}
		if !there {
			at, there = lookUp(byKey, key)
		}
		var old *memberRow
		if there && !kept[at] {
			kept[at], old = true, &present[at]
		}
		next, err := p.record(s, w.owner, m, account, old)
		if err != nil {
			return err
		}
		matches = append(matches, match{old, next, m})
	}
	for i, r := range present {
		if !kept[i] && r.Status != policies.StatusRemoved {
			if err := w.memberGone(r); err != nil {
				return err
			}
		}
	}
	for _, x := range matches {
		if err := w.member(x.old, x.next, x.m.Grants); err != nil {
			return err
		}
	}
	return nil
}

func lookUp[K comparable](m map[K]int, key K) (int, bool) {
	i, ok := m[key]
	return i, ok
}

// record is a member's record as a document has it, from the one that it was.
func (p *importPlan) record(s *Store, owner policies.AccountID, m policies.DocumentMember, account *policies.AccountID, old *memberRow) (memberRow, error) {
	next := memberRow{
		Owner: owner, Email: m.Account.Email, EmailKey: policies.EmailKey(m.Account.Email), Account: account,
		InvitedName: m.Account.DisplayName, DisplayName: m.DisplayName, Status: m.Status, CreatedAt: p.now, LastChanged: p.now,
	}
	if account != nil {
		next.InvitedName = "" // the account has a name of its own
		next.Bound = slices.Contains(acceptedOnce, m.Status)
	}
	if next.Status == policies.StatusPending {
		ends := p.now.Add(s.ttl)
		next.InvitationExpiresAt = &ends
	}
	if old == nil {
		id, err := s.newID("member")
		next.ID = policies.CollaborationID(id)
		return next, err
	}
	next.ID, next.CreatedAt = old.ID, old.CreatedAt
	if old.Status != policies.StatusRemoved {
		next.MemberDisplayName = old.MemberDisplayName
	}
	if samePointer(old.Account, account) && account != nil {
		next.Email, next.EmailKey = old.Email, old.EmailKey // follows the account by itself
		next.Bound = next.Bound || old.Bound
	}
	if next.Status == policies.StatusPending && old.Status == policies.StatusPending {
		next.Invitation, next.InvitationExpiresAt = old.Invitation, old.InvitationExpiresAt
	}
	return next, nil
}

// acceptedOnce are the statuses that only an accepted invitation leads to.
var acceptedOnce = []policies.Status{policies.StatusActive, policies.StatusSuspended, policies.StatusLeft}
