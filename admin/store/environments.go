package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/policies"
)

const selectEnvironments = `select e.owner, e.id, e.name, e.revision,
    array(select p.group_id from environment_groups p where p.owner = e.owner and p.environment_id = e.id order by p.group_id) as groups
from environments e`

const (
	sqlEnvironment     = selectEnvironments + ` where e.id = $1`
	sqlEnvironmentOf   = selectEnvironments + ` where e.owner = $1 and e.id = $2`
	sqlEnvironments    = selectEnvironments + ` where e.owner = $1 and e.id > $2 order by e.id limit $3`
	sqlAllEnvironments = selectEnvironments + ` where e.owner = $1 order by e.id`
	sqlEnvironmentsIn  = selectEnvironments + `
where e.owner = $1 and e.id in (select i.environment_id from environment_groups i where i.owner = $1 and i.group_id = $2) order by e.id`
	sqlKnownGroups = `select id from groups where owner = $1 and id = any ($2::text[])`

	sqlInsertEnvironment = `insert into environments (owner, id, name, revision) values ($1, $2, $3, $4)`
	sqlUpdateEnvironment = `update environments set name = $3, revision = $4 where owner = $1 and id = $2`
	sqlStampEnvironments = `update environments set revision = $3 where owner = $1 and id = any ($2::text[])`
	sqlDeleteEnvironment = `delete from environments where owner = $1 and id = $2`
	sqlInsertPlaces      = `insert into environment_groups (owner, environment_id, group_id)
select $1, $2, unnest($3::text[]) on conflict do nothing`
	sqlDeletePlaces = `delete from environment_groups where owner = $1 and environment_id = $2 and group_id <> all ($3::text[])`
)

type environmentRow struct {
	Owner    policies.AccountID
	ID       policies.EnvironmentID
	Name     string
	Revision policies.Revision
	Groups   []policies.GroupID
}

func (r environmentRow) environment() policies.Environment {
	return policies.Environment{ID: r.ID, Name: r.Name, Groups: r.Groups}
}

func (r environmentRow) item() Item[policies.Environment] {
	return Item[policies.Environment]{Value: r.environment(), ETag: etag(r.Revision), Revision: r.Revision}
}

// environmentObject is an environment as the log has it.
type environmentObject struct {
	owner policies.AccountID
	policies.Environment
}

func (o environmentObject) key() objectKey {
	return objectKey{kind: policies.KindEnvironment, owner: o.owner, id: string(o.ID)}
}
func (o environmentObject) body() any { return policies.EnvironmentBody{Groups: o.Groups} }
func (o environmentObject) public() any {
	return struct {
		Name string `json:"name"`
	}{o.Name}
}
func (environmentObject) personal() any { return nil }

func sameEnvironment(a, b policies.Environment) bool {
	return a.ID == b.ID && a.Name == b.Name && slices.Equal(a.Groups, b.Groups)
}

// PutEnvironment makes or changes an environment. Acting as an account only its
// groups may change, and of a member's those that it does not see stay: all else is a
// ForbiddenError. Other errors: InvalidError (also
// for groups that are not there), NotFoundError (the owner), TakenError (the id is
// another account's), PreconditionError.
func (s *Store) PutEnvironment(
	ctx context.Context, call Call, owner policies.AccountID, environment policies.Environment,
) (Result[policies.Environment], error) {
	if err := policies.Invalid(environment.Validate()); err != nil {
		return Result[policies.Environment]{}, err
	}
	asked := environment.Groups
	environment = environment.Normalize()
	return writeResult(ctx, s, call, "environment.put", func(tx *tx, r *Result[policies.Environment]) error {
		owned := tx.readOwner(owner)
		present := read[environmentRow](tx, sqlEnvironment, environment.ID)
		known := readValues[policies.GroupID](tx, sqlKnownGroups, owner, environment.Groups)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		environment, err := tx.keepHidden(owner, old, environment)
		if err != nil {
			return err
		}
		if err := tx.require(owner, placeNeeds(old, environment)); err != nil {
			return err
		}
		if call.Account != "" && (!there || old.Owner != owner || old.Name != environment.Name) {
			return &policies.ForbiddenError{Reason: "Only the platform's services make and rename environments; an account may change the groups."}
		}
		if err := owned.check(); err != nil {
			return err
		}
		if there && old.Owner != owner {
			return &policies.TakenError{Field: "id", Value: string(environment.ID), Reason: "belongs to another account"}
		}
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		var errs []policies.FieldError
		for i, g := range asked {
			if !slices.Contains(known.rows, g) {
				errs = append(errs, policies.FieldError{Field: fmt.Sprintf("groups[%d]", i), Reason: fmt.Sprintf("%q is not a group of this account", g)})
			}
		}
		if errs != nil {
			return &policies.InvalidError{Errors: errs}
		}
		*r = Result[policies.Environment]{Value: environment, ETag: etag(tx.revision()), Created: !there}
		if there && sameEnvironment(old.environment(), environment) {
			r.ETag = etag(old.Revision)
			return nil
		}
		tx.putEnvironment(owner, old, there, environment)
		return nil
	})
}

// keepHidden leaves an environment in the groups that the writer does not see.
func (tx *tx) keepHidden(owner policies.AccountID, old environmentRow, environment policies.Environment) (policies.Environment, error) {
	if !tx.byMember() || old.Owner != owner {
		return environment, nil
	}
	hidden, err := tx.hiddenGroups(owner, old.Groups...)
	environment.Groups = slices.Concat(environment.Groups, hidden)
	return environment.Normalize(), err
}

// placeNeeds are the rights to change the groups in which an environment stands: on
// the environment and on each group. Where none changes, the right to attach it.
func placeNeeds(old environmentRow, environment policies.Environment) []rights.Need {
	self := policies.Resource{Type: policies.TypeEnvironment, ID: string(environment.ID)}
	var needs []rights.Need
	for action, groups := range map[policies.ActionName][2][]policies.GroupID{
		rights.AttachEnvGroup: {environment.Groups, old.Groups}, rights.DetachEnvGroup: {old.Groups, environment.Groups},
	} {
		for _, g := range groups[0] {
			if !slices.Contains(groups[1], g) {
				needs = append(needs, rights.On(action, self, policies.Resource{Type: policies.TypeGroup, ID: string(g)})...)
			}
		}
	}
	if needs == nil {
		return rights.On(rights.AttachEnvGroup, self)
	}
	return needs
}

func (tx *tx) putEnvironment(owner policies.AccountID, old environmentRow, there bool, environment policies.Environment) {
	after := environmentObject{owner, environment}
	if !there {
		tx.change(sqlInsertEnvironment, []any{owner, environment.ID, environment.Name, tx.revision()}, made(after))
		if len(environment.Groups) > 0 {
			tx.change(sqlInsertPlaces, []any{owner, environment.ID, environment.Groups}, made(after))
		}
		return
	}
	t := replaced(environmentObject{owner, old.environment()}, after)
	tx.change(sqlUpdateEnvironment, []any{owner, environment.ID, environment.Name, tx.revision()}, t)
	if !slices.Equal(old.Groups, environment.Groups) {
		tx.change(sqlDeletePlaces, []any{owner, environment.ID, environment.Groups}, t)
		tx.change(sqlInsertPlaces, []any{owner, environment.ID, environment.Groups}, t)
	}
}

// GetEnvironment finds an environment of owner, or a NotFoundError.
func (s *Store) GetEnvironment(ctx context.Context, owner policies.AccountID, id policies.EnvironmentID) (Item[policies.Environment], error) {
	row, err := getOne[environmentRow](ctx, s, "environment", string(id), sqlEnvironmentOf, owner, id)
	return row.item(), err
}

// ListEnvironments lists the environments of owner that keep wants, by id. Errors:
// NotFoundError (the owner), CursorError, that of keep.
func (s *Store) ListEnvironments(
	ctx context.Context, owner policies.AccountID, keep Keep[policies.EnvironmentID], page Page,
) (List[Item[policies.Environment]], error) {
	return listByID(ctx, s, "environments", owner, keep, page, sqlEnvironments, environmentRow.item,
		func(r environmentRow) policies.EnvironmentID { return r.ID })
}

// DeleteEnvironment removes an environment and the grants on it. Errors:
// NotFoundError, PreconditionError.
func (s *Store) DeleteEnvironment(ctx context.Context, call Call, owner policies.AccountID, id policies.EnvironmentID) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "environment.delete", func(tx *tx, _ *Result[struct{}]) error {
		return tx.dropEnvironment(owner, id)
	})
}

// dropEnvironment removes an environment, its places and the grants on it.
func (tx *tx) dropEnvironment(owner policies.AccountID, id policies.EnvironmentID) error {
	present := read[environmentRow](tx, sqlEnvironmentOf, owner, id)
	grants := tx.readGrantsOn(owner, policies.Resource{Type: policies.TypeEnvironment, ID: string(id)})
	if err := tx.flush(); err != nil {
		return err
	}
	environment, there := present.one()
	if err := tx.match(there, environment.Revision); err != nil {
		return err
	}
	if !there {
		return &policies.NotFoundError{Kind: "environment", ID: string(id)}
	}
	if err := tx.dropGrants(grants.rows); err != nil {
		return err
	}
	t := gone(environmentObject{owner, environment.environment()})
	tx.change(sqlDeletePlaces, []any{owner, id, []string{}}, t)
	tx.change(sqlDeleteEnvironment, []any{owner, id}, t)
	return nil
}

// TransferEnvironment gives an environment to another account: its grants and
// places in groups end. To its present owner it changes nothing. Errors:
// NotFoundError, InvalidError (to is not an account), PreconditionError.
func (s *Store) TransferEnvironment(
	ctx context.Context, call Call, owner policies.AccountID, id policies.EnvironmentID, to policies.AccountID,
) (Result[policies.Environment], error) {
	return writeResult(ctx, s, call, "environment.transfer", func(tx *tx, r *Result[policies.Environment]) error {
		receiver := tx.readOwner(to)
		present := read[environmentRow](tx, sqlEnvironmentOf, owner, id)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if !there {
			return &policies.NotFoundError{Kind: "environment", ID: string(id)}
		}
		if receiver.check() != nil {
			return invalid("to", fmt.Sprintf("%q is not an account", to))
		}
		if to == owner {
			*r = Result[policies.Environment]{Value: old.environment(), ETag: etag(old.Revision)}
			return tx.match(there, old.Revision)
		}
		if err := tx.dropEnvironment(owner, id); err != nil {
			return err
		}
		moved := policies.Environment{ID: id, Name: old.Name, Groups: []policies.GroupID{}}
		tx.putEnvironment(to, environmentRow{}, false, moved)
		*r = Result[policies.Environment]{Value: moved, ETag: etag(tx.revision())}
		return nil
	})
}
