package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/policies"
)

const selectGrants = `select g.owner, g.collaboration_id, g.resource_type, g.resource_id, array_agg(g.role_id order by g.role_id) as roles,
    min(g.expires_at) as expires_at
from grants g`

const (
	sqlGrantsOn = selectGrants + `
where g.owner = $1 and (g.environment_id = $2 or g.group_id = $3)
group by g.owner, g.collaboration_id, g.resource_type, g.resource_id order by g.collaboration_id`
	// The whole of each grant that has the role.
	sqlGrantsWithRole = selectGrants + `
where g.owner = $1 and (g.collaboration_id, g.resource_type, g.resource_id) in
    (select u.collaboration_id, u.resource_type, u.resource_id from grants u where u.owner = $1 and u.role_id = $2)
group by g.owner, g.collaboration_id, g.resource_type, g.resource_id order by g.collaboration_id, g.resource_type, g.resource_id`
	sqlRolesNamed        = `select id, name, name_key from roles where owner = $1 and (id = any ($2::text[]) or name_key = any ($3::text[]))`
	sqlKnownEnvironments = `select id from environments where owner = $1 and id = any ($2::text[])`

	// The rows of many grants: the arrays run in parallel, a row for each role.
	sqlInsertGrants = `insert into grants (owner, collaboration_id, resource_type, resource_id, role_id, expires_at)
select $1, $2, g.t, g.i, g.r, g.e from unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[]) as g (t, i, r, e)`
	sqlDeleteGrants = `delete from grants where owner = $1 and collaboration_id = $2
    and (resource_type, resource_id) in (select d.t, d.i from unnest($3::text[], $4::text[]) as d (t, i))`
	sqlDeleteGrantsOn = `delete from grants where owner = $1 and (environment_id = $2 or group_id = $3)`
	sqlDropRole       = `delete from grants where owner = $1 and role_id = $2`
	sqlStampMembers   = `update collaborations set revision = $3, last_changed = $4 where owner = $1 and id = any ($2::text[])`
)

type grantRow struct {
	Owner           policies.AccountID
	CollaborationID policies.CollaborationID
	ResourceType    policies.ResourceType
	ResourceID      string
	Roles           []policies.RoleID
	ExpiresAt       *time.Time
}

func (r grantRow) resource() policies.Resource {
	return policies.Resource{Type: r.ResourceType, ID: r.ResourceID}
}

func (r grantRow) grant() policies.Grant {
	return policies.Grant{Resource: r.resource(), Roles: r.Roles, ExpiresAt: r.ExpiresAt}.Normalize()
}

// grantObject is a grant as the log has it.
type grantObject struct {
	owner  policies.AccountID
	member policies.CollaborationID
	policies.Grant
}

func (o grantObject) key() objectKey {
	return objectKey{kind: policies.KindGrant, owner: o.owner, id: policies.GrantKey{Member: o.member, Resource: o.Resource}.String()}
}
func (o grantObject) body() any {
	return policies.GrantBody{Roles: o.Roles, ExpiresAt: o.ExpiresAt}
}
func (grantObject) public() any   { return nil }
func (grantObject) personal() any { return nil }

func sameGrant(a, b policies.Grant) bool {
	return a.Resource == b.Resource && slices.Equal(a.Roles, b.Roles) && sameTime(a.ExpiresAt, b.ExpiresAt)
}

// readGrantsOn queues the grants of all members on an environment or a group.
func (tx *tx) readGrantsOn(owner policies.AccountID, resource policies.Resource) *query[grantRow] {
	environment, group := onlyOf(resource)
	return read[grantRow](tx, sqlGrantsOn, owner, environment, group)
}

// onlyOf gives an environment's id or a group's, and null for the other.
func onlyOf(resource policies.Resource) (environment, group *string) {
	switch resource.Type {
	case policies.TypeEnvironment:
		return &resource.ID, nil
	case policies.TypeGroup:
		return nil, &resource.ID
	default:
		return nil, nil
	}
}

// dropGrants removes grants that readGrantsOn found, all on one resource.
func (tx *tx) dropGrants(rows []grantRow) error {
	if len(rows) == 0 {
		return nil
	}
	touches := make([]touch, 0, len(rows))
	members := make([]string, 0, len(rows))
	for _, row := range rows {
		if row.resource() != rows[0].resource() {
			return fmt.Errorf("grants on %s and on %s were to be dropped as one", rows[0].resource(), row.resource())
		}
		touches = append(touches, gone(grantObject{row.Owner, row.CollaborationID, row.grant()}))
		members = append(members, string(row.CollaborationID))
	}
	environment, group := onlyOf(rows[0].resource())
	tx.change(sqlDeleteGrantsOn, []any{rows[0].Owner, environment, group}, touches...)
	tx.change(sqlStampMembers, []any{rows[0].Owner, members, tx.revision(), tx.now}, touches...)
	return nil
}

// dropRoleFromGrants takes a role from the grants that have it.
func (tx *tx) dropRoleFromGrants(owner policies.AccountID, id policies.RoleID, rows []grantRow) {
	if len(rows) == 0 {
		return
	}
	touches := make([]touch, 0, len(rows))
	members := make([]string, 0, len(rows))
	for _, row := range rows {
		before, after := row.grant(), row.grant()
		after.Roles = slices.DeleteFunc(after.Roles, func(r policies.RoleID) bool { return r == id })
		t := gone(grantObject{owner, row.CollaborationID, before})
		if len(after.Roles) > 0 {
			t = replaced(grantObject{owner, row.CollaborationID, before}, grantObject{owner, row.CollaborationID, after})
		}
		touches = append(touches, t)
		members = append(members, string(row.CollaborationID))
	}
	tx.change(sqlDropRole, []any{owner, id}, touches...)
	tx.change(sqlStampMembers, []any{owner, members, tx.revision(), tx.now}, touches...)
}

// insertGrants queues grants that a record does not have yet.
func (tx *tx) insertGrants(owner policies.AccountID, member policies.CollaborationID, grants []policies.Grant) {
	if len(grants) == 0 {
		return
	}
	touches := make([]touch, 0, len(grants))
	for _, g := range grants {
		touches = append(touches, made(grantObject{owner, member, g}))
	}
	tx.change(sqlInsertGrants, grantRows(owner, member, grants), touches...)
}

func grantRows(owner policies.AccountID, member policies.CollaborationID, grants []policies.Grant) []any {
	var types, ids, roles []string
	var ends []*time.Time
	for _, g := range grants {
		for _, role := range g.Roles {
			types, ids = append(types, string(g.Resource.Type)), append(ids, g.Resource.ID)
			roles, ends = append(roles, string(role)), append(ends, g.ExpiresAt)
		}
	}
	return []any{owner, member, types, ids, roles, ends}
}

// deleteGrants queues the end of grants that a record has.
func (tx *tx) deleteGrants(owner policies.AccountID, member policies.CollaborationID, grants []policies.Grant) {
	if len(grants) == 0 {
		return
	}
	touches := make([]touch, 0, len(grants))
	var types, ids []string
	for _, g := range grants {
		touches = append(touches, gone(grantObject{owner, member, g}))
		types, ids = append(types, string(g.Resource.Type)), append(ids, g.Resource.ID)
	}
	tx.change(sqlDeleteGrants, []any{owner, member, types, ids}, touches...)
}

// setGrants makes a record's grants what next says, and tells whether that changed
// any. A grant that changes is written anew.
func (tx *tx) setGrants(owner policies.AccountID, member policies.CollaborationID, present, next []policies.Grant) bool {
	old := make(map[policies.Resource]policies.Grant, len(present))
	for _, g := range present {
		old[g.Resource] = g
	}
	var stale, fresh []policies.Grant
	for _, g := range next {
		before, there := old[g.Resource]
		delete(old, g.Resource)
		if there && sameGrant(before, g) {
			continue
		}
		if there {
			stale = append(stale, before)
		}
		fresh = append(fresh, g)
	}
	for _, g := range present {
		if _, dropped := old[g.Resource]; dropped {
			stale = append(stale, g)
		}
	}
	tx.deleteGrants(owner, member, stale)
	tx.insertGrants(owner, member, fresh)
	return len(stale)+len(fresh) > 0
}

// grantChecks is what grants that come in are held against.
type grantChecks struct {
	owner        policies.AccountID
	grants       []policies.Grant // as they came: roles by id or name
	roles        *query[namedRole]
	environments *query[string]
	groups       *query[string]
}

type namedRole struct {
	ID      policies.RoleID
	Name    string
	NameKey string
}

func (tx *tx) readGrantChecks(owner policies.AccountID, grants []policies.Grant) grantChecks {
	c := grantChecks{owner: owner, grants: grants, environments: &query[string]{}, groups: &query[string]{}, roles: &query[namedRole]{}}
	var refs, keys, environments, groups []string
	for _, g := range grants {
		for _, ref := range g.Roles {
			refs, keys = append(refs, string(ref)), append(keys, policies.NameKey(string(ref)))
		}
		switch g.Resource.Type {
		case policies.TypeEnvironment:
			environments = append(environments, g.Resource.ID)
		case policies.TypeGroup:
			groups = append(groups, g.Resource.ID)
		default:
		}
	}
	if refs != nil {
		c.roles = read[namedRole](tx, sqlRolesNamed, owner, refs, keys)
	}
	if environments != nil {
		c.environments = readValues[string](tx, sqlKnownEnvironments, owner, environments)
	}
	if groups != nil {
		c.groups = readValues[string](tx, sqlKnownGroups, owner, groups)
	}
	return c
}

// check resolves and normalizes the grants, or says all that is wrong with them.
// The fields begin with what field gives for a grant's place. A grant must end in
// the future (api.md, Account document: 422 in a PUT).
func (c grantChecks) check(now time.Time, field func(i int) string) ([]policies.Grant, error) {
	roles := make([]policies.Role, 0, len(c.roles.rows))
	for _, r := range c.roles.rows {
		roles = append(roles, policies.Role{ID: r.ID, Name: r.Name})
	}
	names := policies.NewRoleNames(roles)
	var errs []policies.FieldError
	seen := make(map[policies.Resource]bool, len(c.grants))
	out := make([]policies.Grant, 0, len(c.grants))
	for i, g := range c.grants {
		at := field(i)
		add := func(f, reason string) {
			errs = append(errs, policies.FieldError{Field: at + f, Reason: reason})
		}
		if seen[g.Resource] {
			add("resource", fmt.Sprintf("has two grants on %s", g.Resource))
		}
		seen[g.Resource] = true
		c.checkResource(g.Resource, add)
		if len(g.Roles) == 0 {
			add("roles", "must not be empty")
		}
		g.Roles = slices.Clone(g.Roles)
		for j, ref := range g.Roles {
			id, ok := names.Resolve(string(ref))
			if !ok {
				add(fmt.Sprintf("roles[%d]", j), fmt.Sprintf("%q is neither the id nor the name of a role of this account", ref))
				continue
			}
			g.Roles[j] = id
		}
		if t := g.ExpiresAt; t != nil {
			if y := t.UTC().Year(); y < policies.MinExpiryYear || y > policies.MaxExpiryYear {
				add("expires_at", fmt.Sprintf("must lie in the years %d to %d", policies.MinExpiryYear, policies.MaxExpiryYear))
			} else if !policies.NormalizeTime(*t).After(now) {
				add("expires_at", "must lie in the future")
			}
		}
		out = append(out, g.Normalize())
	}
	if errs != nil {
		return nil, &policies.InvalidError{Errors: errs}
	}
	sortGrants(out)
	return out, nil
}

func (c grantChecks) checkResource(r policies.Resource, add func(field, reason string)) {
	switch r.Type {
	case policies.TypeEnvironment:
		if !slices.Contains(c.environments.rows, r.ID) {
			add("resource.id", fmt.Sprintf("%q is not an environment of this account", r.ID))
		}
	case policies.TypeGroup:
		if !slices.Contains(c.groups.rows, r.ID) {
			add("resource.id", fmt.Sprintf("%q is not a group of this account", r.ID))
		}
	case policies.TypeEnvironments, policies.TypeGroups, policies.TypeAccount:
		if r.ID != string(c.owner) {
			add("resource.id", fmt.Sprintf("must be the owner's id, %q", c.owner))
		}
	default:
		add("resource.type", fmt.Sprintf("must be one of %v", policies.ResourceTypes))
	}
}

// eventGrant is not of the life of a collaboration: what is shared may change in
// every status but removed, where nothing is shared any more.
const eventGrant policies.Event = "grant"

// changeGrants changes the grants of a record: next gives them from the present ones.
func (s *Store) changeGrants(
	ctx context.Context, call Call, action string, owner policies.AccountID, id policies.CollaborationID,
	asked []policies.Grant, field func(i int) string, needs func(tx *tx, present, checked []policies.Grant) error,
	next func(r *Result[policies.Member], present, checked []policies.Grant) ([]policies.Grant, error),
) (Result[policies.Member], error) {
	return writeResult(ctx, s, call, action, func(tx *tx, r *Result[policies.Member]) error {
		q, checks := tx.readMember(owner, id), tx.readGrantChecks(owner, asked)
		if err := tx.flush(); err != nil {
			return err
		}
		checked, invalid := checks.check(tx.now, field)
		record, _ := q.one()
		present, err := record.grants()
		if err != nil {
			return err
		}
		if err := needs(tx, present, checked); err != nil {
			return err
		}
		row, err := tx.foundMember(q, id)
		if err != nil {
			return err
		}
		if row.Status == policies.StatusRemoved {
			return tx.notShared(owner, row)
		}
		if invalid != nil {
			return invalid
		}
		grants, err := next(r, present, checked)
		if err != nil {
			return err
		}
		sortGrants(grants)
		changed := tx.setGrants(owner, id, present, grants)
		if changed {
			tx.stampMember(row)
		}
		memberResult(tx, r, row, grants, changed)
		return nil
	})
}

// notShared refuses grants for a member that was removed. Who may not know of the
// members finds none.
func (tx *tx) notShared(owner policies.AccountID, row memberRow) error {
	sees, err := tx.sees(owner)
	if err == nil && !sees {
		err = &policies.NotFoundError{Kind: "member", ID: string(row.ID)}
	}
	if err != nil {
		return err
	}
	return &policies.StateError{Member: row.ID, Status: row.Status, Event: eventGrant}
}

// stampMember writes that a record's grants changed, which are a part of it.
func (tx *tx) stampMember(m memberRow) {
	tx.change(sqlStampMembers, []any{m.Owner, []string{string(m.ID)}, tx.revision(), tx.now}, replaced(memberObject{m}, memberObject{m}))
}

// SetGrants makes grants all that a member has. Roles are ids or names. Errors:
// InvalidError, NotFoundError, StateError (the member is removed),
// PreconditionError; so with the next two.
func (s *Store) SetGrants(
	ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, grants []policies.Grant,
) (Result[policies.Member], error) {
	return s.changeGrants(ctx, call, "grants.set", owner, id, grants, grantField, func(tx *tx, present, checked []policies.Grant) error {
		return tx.requireGrants(owner, present, checked, grants)
	},
		func(_ *Result[policies.Member], _, checked []policies.Grant) ([]policies.Grant, error) {
			return checked, nil
		})
}

// requireGrants demands, for each grant that differs, just that right; where none
// does, any of the rights that it would be about. checked is nil if what was asked for
// is not valid, and then all of it differs.
func (tx *tx) requireGrants(owner policies.AccountID, present, checked, asked []policies.Grant) error {
	if !tx.byMember() {
		return nil
	}
	var differ, either []rights.Need
	for _, g := range asked {
		need := rights.Need{Action: rights.SetResource, Resource: g.Resource}
		either = append(either, need)
		same := func(x policies.Grant) bool { return x.Resource == g.Resource }
		was, is := slices.IndexFunc(present, same), slices.IndexFunc(checked, same)
		if was < 0 || is < 0 || !sameGrant(present[was], checked[is]) {
			differ = append(differ, need)
		}
	}
	for _, g := range present {
		need := rights.Need{Action: rights.DeleteResources, Resource: g.Resource}
		either = append(either, need)
		if !slices.ContainsFunc(asked, func(x policies.Grant) bool { return x.Resource == g.Resource }) {
			differ = append(differ, need)
		}
	}
	if len(differ) > 0 {
		return tx.require(owner, differ)
	}
	return tx.requireOne(owner, either)
}

func grantField(i int) string { return fmt.Sprintf("grants[%d].", i) }

// PutGrant sets a member's grant on one resource. Created says that it had none.
func (s *Store) PutGrant(
	ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, grant policies.Grant,
) (Result[policies.Member], error) {
	return s.changeGrants(ctx, call, "grant.put", owner, id, []policies.Grant{grant}, func(int) string { return "" }, func(tx *tx, _, _ []policies.Grant) error {
		return tx.require(owner, rights.On(rights.SetResource, grant.Resource))
	},
		func(r *Result[policies.Member], present, checked []policies.Grant) ([]policies.Grant, error) {
			others := without(present, grant.Resource)
			r.Created = len(others) == len(present)
			return append(others, checked...), nil
		})
}

// DeleteGrant takes a member's grant on one resource away. That there is none is a
// NotFoundError.
func (s *Store) DeleteGrant(
	ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, resource policies.Resource,
) (Result[policies.Member], error) {
	return s.changeGrants(ctx, call, "grant.delete", owner, id, nil, grantField, func(tx *tx, _, _ []policies.Grant) error {
		return tx.require(owner, rights.On(rights.DeleteResources, resource))
	},
		func(_ *Result[policies.Member], present, _ []policies.Grant) ([]policies.Grant, error) {
			others := without(present, resource)
			if len(others) == len(present) {
				return nil, &policies.NotFoundError{Kind: "grant", ID: resource.String()}
			}
			return others, nil
		})
}

func without(grants []policies.Grant, resource policies.Resource) []policies.Grant {
	return slices.DeleteFunc(slices.Clone(grants), func(g policies.Grant) bool { return g.Resource == resource })
}
