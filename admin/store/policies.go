package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlPolicy      = `select owner, id, name, description, resources, actions, revision from policies where owner = $1 and id = $2`
	sqlPolicies    = `select owner, id, name, description, resources, actions, revision from policies where owner = $1 and id > $2 order by id limit $3`
	sqlAllPolicies = `select owner, id, name, description, resources, actions, revision from policies where owner = $1 order by id`
	sqlIsSystem    = `select id from system_policies where id = $1`
	sqlRolesUsing  = selectRoles + `
where r.owner = $1 and r.id in (select u.role_id from role_policies u where u.owner = $1 and u.custom_policy = $2) order by r.id`

	sqlInsertPolicy = `insert into policies (owner, id, name, description, resources, actions, revision) values ($1, $2, $3, $4, $5, $6, $7)`
	sqlUpdatePolicy = `update policies set name = $3, description = $4, resources = $5, actions = $6, revision = $7 where owner = $1 and id = $2`
	sqlDeletePolicy = `delete from policies where owner = $1 and id = $2`
	sqlDropPolicy   = `delete from role_policies where owner = $1 and custom_policy = $2`
)

type policyRow struct {
	Owner       policies.AccountID
	ID          policies.PolicyID
	Name        string
	Description string
	Resources   []policies.ResourceType
	Actions     []policies.ActionName
	Revision    policies.Revision
}

func (r policyRow) policy() policies.Policy {
	return policies.Policy{ID: r.ID, Name: r.Name, Description: r.Description, Resources: r.Resources, Actions: r.Actions}
}

func (r policyRow) item() Item[policies.Policy] {
	return Item[policies.Policy]{Value: r.policy(), ETag: etag(r.Revision), Revision: r.Revision}
}

// policyObject is a custom policy as the log has it.
type policyObject struct {
	owner policies.AccountID
	policies.Policy
}

func (o policyObject) key() objectKey {
	return objectKey{kind: policies.KindPolicy, owner: o.owner, id: string(o.ID)}
}
func (o policyObject) body() any {
	return policies.PolicyBody{Resources: o.Resources, Actions: o.Actions}
}
func (o policyObject) public() any {
	return struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}{o.Name, o.Description}
}
func (policyObject) personal() any { return nil }

func samePolicy(a, b policies.Policy) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Description == b.Description &&
		slices.Equal(a.Resources, b.Resources) && slices.Equal(a.Actions, b.Actions)
}

// PolicyPatch changes the fields that are not nil.
type PolicyPatch struct {
	Name        *string
	Description *string
	Resources   *[]policies.ResourceType
	Actions     *[]policies.ActionName
}

// CreatePolicy makes a custom policy; without an id it gets one. Errors:
// InvalidError, NotFoundError (the owner), TakenError (the id is taken, or a system
// policy's).
func (s *Store) CreatePolicy(ctx context.Context, call Call, owner policies.AccountID, policy policies.Policy) (Result[policies.Policy], error) {
	if policy.ID == "" {
		id, err := s.newID("policy")
		if err != nil {
			return Result[policies.Policy]{}, err
		}
		policy.ID = policies.PolicyID(id)
	}
	if err := policies.Invalid(policy.Validate()); err != nil {
		return Result[policies.Policy]{}, err
	}
	policy = policy.Normalize()
	return writeResult(ctx, s, call, "policy.create", func(tx *tx, r *Result[policies.Policy]) error {
		owned := tx.readOwner(owner)
		present, system := read[policyRow](tx, sqlPolicy, owner, policy.ID), readValues[string](tx, sqlIsSystem, policy.ID)
		if err := tx.flush(); err != nil {
			return err
		}
		if err := owned.check(); err != nil {
			return err
		}
		if _, taken := present.one(); taken {
			return &policies.TakenError{Field: "id", Value: string(policy.ID), Reason: "is the id of a policy already"}
		}
		if _, reserved := system.one(); reserved {
			return &policies.TakenError{Field: "id", Value: string(policy.ID), Reason: "is reserved: it is a system policy's"}
		}
		tx.change(sqlInsertPolicy, []any{owner, policy.ID, policy.Name, policy.Description, policy.Resources, policy.Actions, tx.revision()},
			made(policyObject{owner, policy}))
		*r = Result[policies.Policy]{Value: policy, ETag: etag(tx.revision()), Created: true}
		return nil
	})
}

// GetPolicy finds a custom policy of owner, or a NotFoundError.
func (s *Store) GetPolicy(ctx context.Context, owner policies.AccountID, id policies.PolicyID) (Item[policies.Policy], error) {
	row, err := getOne[policyRow](ctx, s, "policy", string(id), sqlPolicy, owner, id)
	return row.item(), err
}

// ListPolicies lists the custom policies of owner that keep wants, by id. Errors: NotFoundError (the
// owner), CursorError, that of keep.
func (s *Store) ListPolicies(
	ctx context.Context, owner policies.AccountID, keep Keep[policies.PolicyID], page Page,
) (List[Item[policies.Policy]], error) {
	return listByID(ctx, s, "policies", owner, keep, page, sqlPolicies, policyRow.item, func(r policyRow) policies.PolicyID { return r.ID })
}

// UpdatePolicy changes a custom policy. Errors: InvalidError, NotFoundError,
// PreconditionError.
func (s *Store) UpdatePolicy(
	ctx context.Context, call Call, owner policies.AccountID, id policies.PolicyID, patch PolicyPatch,
) (Result[policies.Policy], error) {
	return writeResult(ctx, s, call, "policy.update", func(tx *tx, r *Result[policies.Policy]) error {
		present := read[policyRow](tx, sqlPolicy, owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "policy", ID: string(id)}
		}
		policy := old.policy()
		assign(&policy.Name, patch.Name)
		assign(&policy.Description, patch.Description)
		assign(&policy.Resources, patch.Resources)
		assign(&policy.Actions, patch.Actions)
		if err := policies.Invalid(policy.Validate()); err != nil {
			return err
		}
		policy = policy.Normalize()
		*r = Result[policies.Policy]{Value: policy, ETag: etag(tx.revision())}
		if samePolicy(old.policy(), policy) {
			r.ETag = etag(old.Revision)
			return nil
		}
		tx.change(sqlUpdatePolicy, []any{owner, id, policy.Name, policy.Description, policy.Resources, policy.Actions, tx.revision()},
			replaced(policyObject{owner, old.policy()}, policyObject{owner, policy}))
		return nil
	})
}

func assign[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// maxUses is how many uses an InUseError names.
const maxUses = 5

// DeletePolicy removes a custom policy. While roles use it that is an InUseError,
// unless force takes it from them. Other errors: NotFoundError, PreconditionError.
func (s *Store) DeletePolicy(ctx context.Context, call Call, owner policies.AccountID, id policies.PolicyID, force bool) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "policy.delete", func(tx *tx, _ *Result[struct{}]) error {
		present, users := read[policyRow](tx, sqlPolicy, owner, id), read[roleRow](tx, sqlRolesUsing, owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "policy", ID: string(id)}
		}
		if len(users.rows) > 0 && !force {
			inUse := &policies.InUseError{Kind: "policy", ID: string(id), Count: len(users.rows)}
			for _, role := range users.rows[:min(len(users.rows), maxUses)] {
				inUse.Uses = append(inUse.Uses, fmt.Sprintf("role %s", role.ID))
			}
			return inUse
		}
		touches := []touch{gone(policyObject{owner, old.policy()})}
		ids := make([]string, 0, len(users.rows))
		for _, row := range users.rows {
			before, after := row.role(), row.role()
			after.Policies = slices.DeleteFunc(slices.Clone(after.Policies), func(p policies.PolicyID) bool { return p == id })
			touches = append(touches, replaced(roleObject{owner, before}, roleObject{owner, after}))
			ids = append(ids, string(row.ID))
		}
		tx.change(sqlDropPolicy, []any{owner, id}, touches...)
		tx.change(sqlStampRoles, []any{owner, ids, tx.revision()}, touches...)
		tx.change(sqlDeletePolicy, []any{owner, id}, touches...)
		return nil
	})
}
