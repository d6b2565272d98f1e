package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/usher-authz/usher/policies"
)

const selectRoles = `select r.owner, r.id, r.name, r.description, r.receive_load_alerts, r.revision,
    array(select p.policy_id from role_policies p where p.owner = r.owner and p.role_id = r.id order by p.policy_id) as policies
from roles r`

const (
	sqlRole     = selectRoles + ` where r.owner = $1 and r.id = $2`
	sqlRoles    = selectRoles + ` where r.owner = $1 and r.id > $2 order by r.id limit $3`
	sqlAllRoles = selectRoles + ` where r.owner = $1 order by r.id`
	// What collides: the name is another role's name, or another role's id, or the id
	// is another role's name.
	sqlRoleCollisions = `select id, name from roles where owner = $1 and id <> $2 and (name_key = $3 or id = $4 or name = $2)`
	sqlRoleNames      = `select id, name from roles where owner = $1`
	// The policies that owner's roles may have, of those asked for.
	sqlKnownPolicies = `select id, true as custom from policies where owner = $1 and id = any ($2::text[])
union all
select id, false from system_policies where id = any ($2::text[])`

	sqlInsertRole = `insert into roles (owner, id, name, name_key, description, receive_load_alerts, revision) values ($1, $2, $3, $4, $5, $6, $7)`
	sqlUpdateRole = `update roles set name = $3, name_key = $4, description = $5, receive_load_alerts = $6, revision = $7 where owner = $1 and id = $2`
	sqlStampRoles = `update roles set revision = $3 where owner = $1 and id = any ($2::text[])`
	sqlDeleteRole = `delete from roles where owner = $1 and id = $2`

	sqlInsertRolePolicies = `insert into role_policies (owner, role_id, policy_id, custom)
select $1, $2, p.id, p.custom from unnest($3::text[], $4::boolean[]) as p (id, custom) on conflict do nothing`
	sqlDeleteRolePolicies = `delete from role_policies where owner = $1 and role_id = $2 and policy_id <> all ($3::text[])`
)

type roleRow struct {
	Owner             policies.AccountID
	ID                policies.RoleID
	Name              string
	Description       string
	ReceiveLoadAlerts bool
	Revision          policies.Revision
	Policies          []policies.PolicyID
}

func (r roleRow) role() policies.Role {
	return policies.Role{ID: r.ID, Name: r.Name, Description: r.Description, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts}
}

func (r roleRow) item() Item[policies.Role] {
	return Item[policies.Role]{Value: r.role(), ETag: etag(r.Revision), Revision: r.Revision}
}

// roleObject is a role as the log has it.
type roleObject struct {
	owner policies.AccountID
	policies.Role
}

func (o roleObject) key() objectKey {
	return objectKey{kind: policies.KindRole, owner: o.owner, id: string(o.ID)}
}
func (o roleObject) body() any {
	return policies.RoleBody{Name: o.Name, Policies: o.Policies, ReceiveLoadAlerts: o.ReceiveLoadAlerts}
}
func (o roleObject) public() any {
	return struct {
		Description string `json:"description"`
	}{o.Description}
}
func (roleObject) personal() any { return nil }

func sameRole(a, b policies.Role) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Description == b.Description && a.ReceiveLoadAlerts == b.ReceiveLoadAlerts &&
		slices.Equal(a.Policies, b.Policies)
}

// RolePatch changes the fields that are not nil.
type RolePatch struct {
	Name              *string
	Description       *string
	Policies          *[]policies.PolicyID
	ReceiveLoadAlerts *bool
}

type knownPolicy struct {
	ID     policies.PolicyID
	Custom bool
}

// roleChecks is what a role must be held against.
type roleChecks struct {
	owner      policies.AccountID
	asked      []policies.PolicyID // in the caller's order
	collisions *query[siblingRole]
	known      *query[knownPolicy]
}

type siblingRole struct {
	ID   policies.RoleID
	Name string
}

func (tx *tx) readRoleChecks(owner policies.AccountID, role policies.Role, asked []policies.PolicyID) roleChecks {
	return roleChecks{
		owner: owner, asked: asked,
		collisions: read[siblingRole](tx, sqlRoleCollisions, owner, role.ID, policies.NameKey(role.Name), role.Name),
		known:      read[knownPolicy](tx, sqlKnownPolicies, owner, role.Policies),
	}
}

func (c roleChecks) check(role policies.Role) error {
	var errs []policies.FieldError
	for i, id := range c.asked {
		if !slices.ContainsFunc(c.known.rows, func(k knownPolicy) bool { return k.ID == id }) {
			errs = append(errs, policies.FieldError{
				Field:  fmt.Sprintf("policies[%d]", i),
				Reason: fmt.Sprintf("%q is neither a system policy nor a policy of this account", id),
			})
		}
	}
	if errs != nil {
		return &policies.InvalidError{Errors: errs}
	}
	for _, other := range c.collisions.rows {
		switch {
		case string(other.ID) == role.Name:
			return &policies.TakenError{Field: "name", Value: role.Name, Reason: "is the id of another role"}
		case policies.NameKey(other.Name) == policies.NameKey(role.Name):
			return &policies.TakenError{Field: "name", Value: role.Name, Reason: "is the name of another role"}
		default:
			return &policies.TakenError{Field: "id", Value: string(role.ID), Reason: "is the name of another role"}
		}
	}
	return nil
}

// insertRolePolicies queues the policies of a role, whose touch is t.
func (tx *tx) insertRolePolicies(c roleChecks, role policies.Role, t touch) {
	if len(role.Policies) == 0 {
		return
	}
	custom := make([]bool, 0, len(role.Policies))
	for _, id := range role.Policies {
		custom = append(custom, slices.Contains(c.known.rows, knownPolicy{id, true}))
	}
	tx.change(sqlInsertRolePolicies, []any{c.owner, role.ID, role.Policies, custom}, t)
}

// CreateRole makes a role; without an id it gets one. Errors: InvalidError (also for
// policies that are not there), NotFoundError (the owner), TakenError (the id, or
// the name, is another role's id or name).
func (s *Store) CreateRole(ctx context.Context, call Call, owner policies.AccountID, role policies.Role) (Result[policies.Role], error) {
	if role.ID == "" {
		id, err := s.newID("role")
		if err != nil {
			return Result[policies.Role]{}, err
		}
		role.ID = policies.RoleID(id)
	}
	if err := policies.Invalid(role.Validate()); err != nil {
		return Result[policies.Role]{}, err
	}
	asked := role.Policies
	role = role.Normalize()
	return writeResult(ctx, s, call, "role.create", func(tx *tx, r *Result[policies.Role]) error {
		owned := tx.readOwner(owner)
		present, checks := read[roleRow](tx, sqlRole, owner, role.ID), tx.readRoleChecks(owner, role, asked)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := owned.check(); err != nil {
			return err
		}
		if _, taken := present.one(); taken {
			return &policies.TakenError{Field: "id", Value: string(role.ID), Reason: "is the id of a role already"}
		}
		if err := checks.check(role); err != nil {
			return err
		}
		tx.insertRole(checks, role)
		*r = Result[policies.Role]{Value: role, ETag: etag(tx.revision()), Created: true}
		return nil
	})
}

func (tx *tx) insertRole(c roleChecks, role policies.Role) {
	t := made(roleObject{c.owner, role})
	tx.change(sqlInsertRole, []any{
		c.owner, role.ID, role.Name, policies.NameKey(role.Name), role.Description, role.ReceiveLoadAlerts, tx.revision(),
	}, t)
	tx.insertRolePolicies(c, role, t)
}

// GetRole finds a role of owner, or a NotFoundError.
func (s *Store) GetRole(ctx context.Context, owner policies.AccountID, id policies.RoleID) (Item[policies.Role], error) {
	row, err := getOne[roleRow](ctx, s, "role", string(id), sqlRole, owner, id)
	return row.item(), err
}

// ListRoles lists the roles of owner that keep wants, by id. Errors: NotFoundError (the
// owner), CursorError, that of keep.
func (s *Store) ListRoles(
	ctx context.Context, owner policies.AccountID, keep Keep[policies.RoleID], page Page,
) (List[Item[policies.Role]], error) {
	return listByID(ctx, s, "roles", owner, keep, page, sqlRoles, roleRow.item, func(r roleRow) policies.RoleID { return r.ID })
}

// UpdateRole changes a role. Errors: InvalidError, NotFoundError, TakenError (the
// name), PreconditionError.
func (s *Store) UpdateRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, patch RolePatch) (Result[policies.Role], error) {
	return writeResult(ctx, s, call, "role.update", func(tx *tx, r *Result[policies.Role]) error {
		present := read[roleRow](tx, sqlRole, owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "role", ID: string(id)}
		}
		role := old.role()
		assign(&role.Name, patch.Name)
		assign(&role.Description, patch.Description)
		assign(&role.Policies, patch.Policies)
		assign(&role.ReceiveLoadAlerts, patch.ReceiveLoadAlerts)
		if err := policies.Invalid(role.Validate()); err != nil {
			return err
		}
		asked := role.Policies
		role = role.Normalize()
		*r = Result[policies.Role]{Value: role, ETag: etag(tx.revision())}
		if sameRole(old.role(), role) {
			r.ETag = etag(old.Revision)
			return nil
		}
		checks := tx.readRoleChecks(owner, role, asked)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := checks.check(role); err != nil {
			return err
		}
		t := replaced(roleObject{owner, old.role()}, roleObject{owner, role})
		tx.change(sqlUpdateRole, []any{owner, id, role.Name, policies.NameKey(role.Name), role.Description, role.ReceiveLoadAlerts, tx.revision()}, t)
		tx.change(sqlDeleteRolePolicies, []any{owner, id, role.Policies}, t)
		tx.insertRolePolicies(checks, role, t)
		return nil
	})
}

// DeleteRole removes a role. While grants use it, those of ended and pending
// collaborations and expired ones too, that is an InUseError, unless force takes it
// from them; a grant left without roles disappears. Other errors: NotFoundError,
// PreconditionError.
func (s *Store) DeleteRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, force bool) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "role.delete", func(tx *tx, _ *Result[struct{}]) error {
		present, users := read[roleRow](tx, sqlRole, owner, id), read[grantRow](tx, sqlGrantsWithRole, owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "role", ID: string(id)}
		}
		if len(users.rows) > 0 && !force {
			inUse := &policies.InUseError{Kind: "role", ID: string(id), Count: len(users.rows)}
			for _, g := range users.rows[:min(len(users.rows), maxUses)] {
				inUse.Uses = append(inUse.Uses, fmt.Sprintf("member %s on %s", g.CollaborationID, g.resource()))
			}
			return inUse
		}
		tx.dropRoleFromGrants(owner, id, users.rows)
		t := gone(roleObject{owner, old.role()})
		tx.change(sqlDeleteRolePolicies, []any{owner, id, []string{}}, t)
		tx.change(sqlDeleteRole, []any{owner, id}, t)
		return nil
	})
}

// CopyRole makes a role like another; with an empty name it is called "NAME (copy)",
// or, where that is taken, "NAME (copy 2)" and so on. Errors: NotFoundError,
// InvalidError, TakenError (the name).
func (s *Store) CopyRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, name string) (Result[policies.Role], error) {
	newID, err := s.newID("role")
	if err != nil {
		return Result[policies.Role]{}, err
	}
	return writeResult(ctx, s, call, "role.copy", func(tx *tx, r *Result[policies.Role]) error {
		present, names := read[roleRow](tx, sqlRole, owner, id), read[siblingRole](tx, sqlRoleNames, owner)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "role", ID: string(id)}
		}
		role := old.role()
		role.ID, role.Name = policies.RoleID(newID), name
		if name == "" {
			role.Name = copyName(old.Name, names.rows)
		}
		if err := policies.Invalid(role.Validate()); err != nil {
			return err
		}
		role = role.Normalize()
		checks := tx.readRoleChecks(owner, role, role.Policies)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := checks.check(role); err != nil {
			return err
		}
		tx.insertRole(checks, role)
		*r = Result[policies.Role]{Value: role, ETag: etag(tx.revision()), Created: true}
		return nil
	})
}

// copyName is the first free name for a copy, cut to what a name may have.
func copyName(name string, roles []siblingRole) string {
	taken := make(map[string]bool, 2*len(roles))
	for _, r := range roles {
		taken[policies.NameKey(r.Name)], taken[policies.NameKey(string(r.ID))] = true, true
	}
	for n := 1; ; n++ {
		suffix := " (copy)"
		if n > 1 {
			suffix = " (copy " + strconv.Itoa(n) + ")"
		}
		base := []rune(name)
		base = base[:min(len(base), policies.MaxNameLength-utf8.RuneCountInString(suffix))]
		if candidate := string(base) + suffix; !taken[policies.NameKey(candidate)] {
			return candidate
		}
	}
}

// MakeDefaultRoles makes the example roles of the catalogue in force that owner
// lacks, by name without case; the value is those made. Errors: NotFoundError (the
// owner), TakenError (a role has such a name for its id).
func (s *Store) MakeDefaultRoles(ctx context.Context, call Call, owner policies.AccountID) (Result[[]Item[policies.Role]], error) {
	return writeResult(ctx, s, call, "role.defaults", func(tx *tx, r *Result[[]Item[policies.Role]]) error {
		owned, present := tx.readOwner(owner), read[siblingRole](tx, sqlRoleNames, owner)
		inForce := read[policyInForceRow](tx, sqlPolicyInForce)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := owned.check(); err != nil {
			return err
		}
		row, _ := inForce.one()
		p, err := row.decode()
		if err != nil {
			return err
		}
		r.Value = []Item[policies.Role]{}
		for _, example := range p.Catalogue.Roles {
			if slices.ContainsFunc(present.rows, func(o siblingRole) bool { return policies.NameKey(o.Name) == policies.NameKey(example.Name) }) {
				continue
			}
			role, err := tx.makeExampleRole(owner, example)
			if err != nil {
				return err
			}
			r.Value = append(r.Value, Item[policies.Role]{Value: role, ETag: etag(tx.revision()), Revision: tx.revision()})
			r.Created = true
		}
		return nil
	})
}

func (tx *tx) makeExampleRole(owner policies.AccountID, example policies.ExampleRole) (policies.Role, error) {
	id, err := tx.s.newID("role")
	if err != nil {
		return policies.Role{}, err
	}
	role := policies.Role{
		ID: policies.RoleID(id), Name: example.Name, Description: example.Description,
		Policies: example.Policies, ReceiveLoadAlerts: example.ReceiveLoadAlerts,
	}.Normalize()
	checks := tx.readRoleChecks(owner, role, role.Policies)
	if err := tx.flush(); err != nil {
		return policies.Role{}, err
	}
	if err := checks.check(role); err != nil {
		return policies.Role{}, err
	}
	tx.insertRole(checks, role)
	return role, nil
}
