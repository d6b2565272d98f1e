package store

import (
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// Changes of many rows at once: the arrays run in parallel. What is new is copied in.
const (
	sqlDeferUnique = `set constraints accounts_email_key, groups_name_key, roles_name_key deferred`

	// The latest time of a revision so far.
	sqlLatest = `select r.latest from platform p join revisions r on r.revision = p.revision`

	sqlDeleteGrantsIn = `delete from grants g
using unnest($1::text[], $2::text[], $3::text[], $4::text[]) as d (owner, collaboration_id, resource_type, resource_id)
where g.owner = d.owner and g.collaboration_id = d.collaboration_id and g.resource_type = d.resource_type and g.resource_id = d.resource_id`
	sqlDeleteRolePoliciesIn = `delete from role_policies p using unnest($1::text[], $2::text[]) as d (owner, id) where p.owner = d.owner and p.role_id = d.id`
	sqlDeletePlacesOfIn     = `delete from environment_groups p using unnest($1::text[], $2::text[]) as d (owner, id)
where p.owner = d.owner and p.environment_id = d.id`
	sqlDeleteMembersIn      = `delete from collaborations c using unnest($1::text[], $2::text[]) as d (owner, id) where c.owner = d.owner and c.id = d.id`
	sqlDeleteRolesIn        = `delete from roles r using unnest($1::text[], $2::text[]) as d (owner, id) where r.owner = d.owner and r.id = d.id`
	sqlDeletePoliciesIn     = `delete from policies p using unnest($1::text[], $2::text[]) as d (owner, id) where p.owner = d.owner and p.id = d.id`
	sqlDeleteEnvironmentsIn = `delete from environments e using unnest($1::text[], $2::text[]) as d (owner, id) where e.owner = d.owner and e.id = d.id`
	sqlDeleteGroupsIn       = `delete from groups g using unnest($1::text[], $2::text[]) as d (owner, id) where g.owner = d.owner and g.id = d.id`
)

// importPlan applies a plan under the lock, anew if what it rests on has changed.
func (tx *tx) importPlan(p *importPlan) (outcome, error) {
	names := namesOf(p.batch)
	tx.queue.Queue(sqlByIndexes)
	tx.queue.Queue(sqlDeferUnique)
	stale := readValues[bool](tx, sqlViewIsStale, p.view.revision, names.owners, names.accounts, p.rests)
	waiting := readValues[string](tx, sqlViewWaiting, names.emails)
	latest := readValues[time.Time](tx, sqlLatest)
	if err := tx.flush(); err != nil {
		return outcome{}, err
	}
	changed, _ := stale.one()
	for _, key := range waiting.rows {
		changed = changed || !p.view.waiting[key]
	}
	if changed {
		queries := queueView(tx.queue, namesOf(p.batch))
		if err := tx.flush(); err != nil {
			return outcome{}, err
		}
		view, err := queries.view()
		if err != nil {
			return outcome{}, err
		}
		again, err := tx.s.plan(view, tx.call.Actor, p.batch)
		if err != nil {
			return outcome{}, err
		}
		*p = *again
	}
	tx.now, p.transaction = p.now, tx.id
	p.latest = p.now
	if before, ok := latest.one(); ok && before.After(p.latest) {
		p.latest = before
	}
	return tx.applyPlan(p)
}

func (tx *tx) applyPlan(p *importPlan) (outcome, error) {
	changing := p.number(tx.head.Revision)
	if len(changing) == 0 {
		return outcome{revision: tx.head.Revision}, nil
	}
	c := &copier{tx: tx}
	if err := tx.applyRows(c, &p.rows); err != nil {
		return outcome{}, err
	}
	if d := changing[0]; d.alone() {
		if err := c.finish(); err != nil {
			return outcome{}, err
		}
		if err := tx.follow(d); err != nil {
			return outcome{}, err
		}
	}
	revisions := make([]importRevision, 0, len(changing))
	var entries []importEntry
	for _, d := range changing {
		revisions = append(revisions, importRevision{tx.chain(d.record), d.record, p.latest})
		for i := range d.record.entries {
			entries = append(entries, importEntry{d.revision, i, &d.record.entries[i], runAt(d.record.entries, i)})
		}
	}
	copyRows(c, "revisions", revisionColumns, revisions, (*copier).revision)
	copyRows(c, "changes", changeColumns, entries, (*copier).entry)
	if err := c.finish(); err != nil {
		return outcome{}, err
	}
	tx.queueHead()
	return tx.s.commit(tx)
}

// number gives the documents that change something their revisions.
func (p *importPlan) number(head policies.Revision) []*documentPlan {
	var changing []*documentPlan
	for _, d := range p.documents {
		if d.errs == nil && (d.record != nil || d.alone()) {
			head++
			d.revision = head
			changing = append(changing, d)
		}
	}
	return changing
}

// follow does for a document alone in its plan what its accounts' addresses bring
// about at other owners.
func (tx *tx) follow(d *documentPlan) error {
	tx.draft = d.draft.clone()
	keys := slices.Clone(d.follow)
	if d.moved != nil {
		if err := tx.moveBoundAddresses(*d.moved); err != nil {
			return err
		}
		keys = append(keys, policies.EmailKey(d.moved.Email))
	}
	if err := tx.followAddresses(keys); err != nil {
		return err
	}
	var err error
	d.record, err = tx.draft.imported(tx.now, tx.call.Actor, tx.s.rand)
	return err
}

// applyRows writes the rows in the order that the references want: what points at
// others goes first and comes last. New rows wait in c where nothing stands between
// them and the next.
func (tx *tx) applyRows(c *copier, r *importRows) error {
	if len(r.goneGrants.ids) > 0 {
		tx.queue.Queue(sqlDeleteGrantsIn, r.goneGrants.owners, r.goneGrants.members, r.goneGrants.types, r.goneGrants.ids)
	}
	tx.deleteKeys(sqlDeleteRolePoliciesIn, r.clearedRoles)
	tx.deleteKeys(sqlDeletePlacesOfIn, r.clearedPlaces)
	tx.deleteKeys(sqlDeleteMembersIn, r.goneMembers)
	tx.updateAccounts(r.accounts)
	if err := tx.flush(); err != nil {
		return err
	}
	copyRows(c, "accounts", accountColumns, r.newAccounts, (*copier).account)
	copyRows(c, "groups", groupColumns, r.newGroups, (*copier).group)
	copyRows(c, "environments", environmentColumns, r.newEnvironments, (*copier).environment)
	copyRows(c, "policies", policyColumns, r.newPolicies, (*copier).policy)
	copyRows(c, "roles", roleColumns, r.newRoles, (*copier).role)
	tx.updateObjects(r)
	if err := tx.flushBehind(c); err != nil {
		return err
	}
	copyRows(c, "environment_groups", placeColumns, r.places, (*copier).place)
	copyRows(c, "role_policies", rolePolicyColumns, r.rolePolicies, (*copier).rolePolicy)
	copyRows(c, "collaborations", memberColumns, r.newMembers, (*copier).member)
	copyRows(c, "grants", grantColumns, r.grants, (*copier).grant)
	tx.deleteKeys(sqlDeleteRolesIn, r.goneRoles)
	tx.deleteKeys(sqlDeletePoliciesIn, r.gonePolicies)
	tx.deleteKeys(sqlDeleteEnvironmentsIn, r.goneEnvironments)
	tx.deleteKeys(sqlDeleteGroupsIn, r.goneGroups)
	return tx.flushBehind(c)
}

// flushBehind sends what is queued, behind the rows that wait in c.
func (tx *tx) flushBehind(c *copier) error {
	if tx.queue.Len() == 0 {
		return nil
	}
	if err := c.finish(); err != nil {
		return err
	}
	return tx.flush()
}

func (tx *tx) deleteKeys(sql string, k keys) {
	if len(k.ids) > 0 {
		tx.queue.Queue(sql, k.owners, k.ids)
	}
}

// The columns of what is copied, and the values of a row.
var (
	revisionColumns = []string{
		"revision", "at", "latest", "objects", "audit_hash", "hash", "action", "token", "token_name", "account", "local", "request_id", "owners",
		"address", "address_salt", "address_hash", "transaction",
	}
	changeColumns      = []string{"owner", "revision", "ordinal", "kind", "id", "before", "after", "personal", "personal_salt", "personal_hash", "run"}
	accountColumns     = []string{"id", "email", "email_key", "display_name", "created_at", "revision"}
	groupColumns       = []string{"owner", "id", "name", "name_key", "parent", "color", "revision"}
	environmentColumns = []string{"owner", "id", "name", "revision"}
	policyColumns      = []string{"owner", "id", "name", "description", "resources", "actions", "revision"}
	roleColumns        = []string{"owner", "id", "name", "name_key", "description", "receive_load_alerts", "revision"}
	memberColumns      = []string{
		"owner", "id", "email", "email_key", "account", "bound", "invited_name", "display_name", "name_key", "member_display_name",
		"status", "invitation", "invitation_expires_at", "created_at", "last_changed", "revision",
	}
	placeColumns      = []string{"owner", "environment_id", "group_id"}
	rolePolicyColumns = []string{"owner", "role_id", "policy_id", "custom"}
	grantColumns      = []string{"owner", "collaboration_id", "resource_type", "resource_id", "role_id", "expires_at"}
)

type importRevision struct {
	policies.Change
	record *record
	latest time.Time
}

func (c *copier) revision(r importRevision) {
	actor := c.tx.call.Actor
	c.bigint(int64(r.Revision))
	c.time(r.Time)
	c.time(r.latest)
	c.bytes(r.Objects)
	c.bytes(r.AuditHash[:])
	c.bytes(r.Hash[:])
	copyText(c, actionImport, actor.Token, actor.TokenName, string(actor.Account))
	c.bool(actor.Local)
	copyText(c, actor.RequestID)
	copyTexts(c, r.record.owners())
	copyOptional(c, r.record.address)
	c.bytes(r.record.addressSalt)
	c.bytes(r.record.addressHash)
	c.bytes(c.tx.id[:])
}

type importEntry struct {
	revision policies.Revision
	ordinal  int
	*entry
	run *int32
}

func (c *copier) entry(e importEntry) {
	copyText(c, e.owner)
	c.bigint(int64(e.revision))
	c.integer(int32(e.ordinal))
	copyText(c, string(e.kind), e.id)
	copyOptional(c, e.before)
	copyOptional(c, e.after)
	copyOptional(c, e.personal)
	c.bytes(e.personalSalt)
	c.bytes(e.personalHash)
	if e.run == nil {
		c.null()
	} else {
		c.integer(*e.run)
	}
}

func (c *copier) at(d *documentPlan) { c.bigint(int64(d.revision)) }

func (c *copier) account(r importRow[accountRow]) {
	copyText(c, string(r.row.ID), r.row.Email, r.row.EmailKey, r.row.DisplayName)
	c.time(r.row.CreatedAt)
	c.at(r.document)
}

func (c *copier) group(r importRow[groupRow]) {
	copyText(c, string(r.row.Owner), string(r.row.ID), r.row.Name, policies.NameKey(r.row.Name))
	copyOptional(c, r.row.Parent)
	copyText(c, r.row.Color)
	c.at(r.document)
}

func (c *copier) environment(r importRow[environmentRow]) {
	copyText(c, string(r.row.Owner), string(r.row.ID), r.row.Name)
	c.at(r.document)
}

func (c *copier) policy(r importRow[policyRow]) {
	copyText(c, string(r.row.Owner), string(r.row.ID), r.row.Name, r.row.Description)
	copyTexts(c, r.row.Resources)
	copyTexts(c, r.row.Actions)
	c.at(r.document)
}

func (c *copier) role(r importRow[roleRow]) {
	copyText(c, string(r.row.Owner), string(r.row.ID), r.row.Name, policies.NameKey(r.row.Name), r.row.Description)
	c.bool(r.row.ReceiveLoadAlerts)
	c.at(r.document)
}

func (c *copier) member(r importRow[memberRow]) {
	m := &r.row
	copyText(c, string(m.Owner), string(m.ID), m.Email, m.EmailKey)
	copyOptional(c, m.Account)
	c.bool(m.Bound)
	copyText(c, m.InvitedName, m.DisplayName, policies.NameKey(m.DisplayName), m.MemberDisplayName, string(m.Status))
	copyOptional(c, m.Invitation)
	c.optionalTime(m.InvitationExpiresAt)
	c.time(m.CreatedAt)
	c.time(m.LastChanged)
	c.at(r.document)
}

func (c *copier) place(r placeRow) {
	copyText(c, string(r.owner), string(r.environment), string(r.group))
}

func (c *copier) rolePolicy(r rolePolicyRow) {
	copyText(c, string(r.owner), string(r.role), string(r.policy))
	c.bool(r.custom)
}

func (c *copier) grant(r grantRoleRow) {
	copyText(c, string(r.owner), string(r.member), string(r.resource.Type), r.resource.ID, string(r.role))
	c.optionalTime(r.ends)
}

// Objects that change, one statement each: there are few of them in an import, and
// they are pipelined.
func (tx *tx) updateAccounts(rows []importRow[accountRow]) {
	for _, r := range rows {
		tx.queue.Queue(sqlUpdateAccount, r.row.ID, r.row.Email, r.row.EmailKey, r.row.DisplayName, r.document.revision)
	}
}

func (tx *tx) updateObjects(r *importRows) {
	for _, g := range r.groups {
		tx.queue.Queue(sqlUpdateGroup, g.row.Owner, g.row.ID, g.row.Name, policies.NameKey(g.row.Name), g.row.Parent, g.row.Color, g.document.revision)
	}
	for _, e := range r.environments {
		tx.queue.Queue(sqlUpdateEnvironment, e.row.Owner, e.row.ID, e.row.Name, e.document.revision)
	}
	for _, p := range r.policies {
		tx.queue.Queue(sqlUpdatePolicy, p.row.Owner, p.row.ID, p.row.Name, p.row.Description, p.row.Resources, p.row.Actions, p.document.revision)
	}
	for _, o := range r.roles {
		tx.queue.Queue(sqlUpdateRole, o.row.Owner, o.row.ID, o.row.Name, policies.NameKey(o.row.Name), o.row.Description,
			o.row.ReceiveLoadAlerts, o.document.revision)
	}
	for _, m := range r.members {
		tx.queue.Queue(sqlUpdateMember, m.row.Owner, m.row.ID, m.row.Email, m.row.EmailKey, m.row.Account, m.row.Bound, m.row.InvitedName, m.row.DisplayName,
			policies.NameKey(m.row.DisplayName), m.row.MemberDisplayName, m.row.Status, m.row.Invitation, m.row.InvitationExpiresAt,
			tx.now, m.document.revision)
	}
}
