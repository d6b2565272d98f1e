package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlAccount        = `select id, email, email_key, display_name, created_at, revision from accounts where id = $1`
	sqlAccountByEmail = `select id, email, email_key, display_name, created_at, revision from accounts where email_key = $1`
	sqlAccountsAmong  = `select id, email, email_key, display_name, created_at, revision
from unnest($1::text[]) with ordinality as a (id, place) join accounts using (id) order by place`

	sqlInsertAccount = `insert into accounts (id, email, email_key, display_name, created_at, revision) values ($1, $2, $3, $4, $5, $6)`
	sqlUpdateAccount = `update accounts set email = $2, email_key = $3, display_name = $4, revision = $5 where id = $1`
	sqlDeleteAccount = `delete from accounts where id = $1`

	sqlDeleteGrantsOf       = `delete from grants where owner = $1`
	sqlDeleteMembersOf      = `delete from collaborations where owner = $1`
	sqlDeleteRolePoliciesOf = `delete from role_policies where owner = $1`
	sqlDeleteRolesOf        = `delete from roles where owner = $1`
	sqlDeletePoliciesOf     = `delete from policies where owner = $1`
	sqlDeletePlacesOf       = `delete from environment_groups where owner = $1`
	sqlDeleteEnvironmentsOf = `delete from environments where owner = $1`
	sqlDeleteGroupsOf       = `delete from groups where owner = $1`
)

type accountRow struct {
	ID          policies.AccountID
	Email       string
	EmailKey    string
	DisplayName string
	CreatedAt   time.Time
	Revision    policies.Revision
}

func (r accountRow) account() policies.Account {
	return policies.Account{ID: r.ID, Email: r.Email, DisplayName: r.DisplayName}
}

func (r accountRow) item() Item[policies.Account] {
	return Item[policies.Account]{Value: r.account(), ETag: etag(r.Revision), Revision: r.Revision}
}

// accountObject is an account as the log has it.
type accountObject struct{ policies.Account }

func (o accountObject) key() objectKey {
	return objectKey{kind: policies.KindAccount, owner: o.ID, id: string(o.ID)}
}
func (accountObject) body() any   { return policies.AccountBody{} }
func (accountObject) public() any { return nil }
func (o accountObject) personal() any {
	return struct {
		Email       string `json:"email"`
		DisplayName string `json:"display_name"`
	}{o.Email, o.DisplayName}
}

// PutAccount makes or changes an account. Invitations to its address become its
// own, and those to an address that it gives up are nobody's. Errors:
// InvalidError, TakenError (the email is another account's), PreconditionError.
func (s *Store) PutAccount(ctx context.Context, call Call, account policies.Account) (Result[policies.Account], error) {
	if err := policies.Invalid(account.Validate()); err != nil {
		return Result[policies.Account]{}, err
	}
	account = account.Normalize()
	return writeResult(ctx, s, call, "account.put", func(tx *tx, r *Result[policies.Account]) error {
		key := policies.EmailKey(account.Email)
		present, holder := read[accountRow](tx, sqlAccount, account.ID), read[accountRow](tx, sqlAccountByEmail, key)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if other, taken := holder.one(); taken && other.ID != account.ID {
			return &policies.TakenError{Field: "email", Value: account.Email, Reason: "belongs to another account"}
		}
		*r = Result[policies.Account]{Value: account, ETag: etag(tx.revision()), Created: !there}
		if there && old.account() == account {
			r.ETag = etag(old.Revision)
			return nil
		}
		return tx.putAccount(old, there, account)
	})
}

// putAccount writes an account that differs from the old one, and what follows its
// address.
func (tx *tx) putAccount(old accountRow, there bool, account policies.Account) error {
	key := policies.EmailKey(account.Email)
	if !there {
		tx.change(sqlInsertAccount, []any{account.ID, account.Email, key, account.DisplayName, tx.now, tx.revision()}, made(accountObject{account}))
		return tx.followAddresses([]string{key})
	}
	tx.change(sqlUpdateAccount, []any{account.ID, account.Email, key, account.DisplayName, tx.revision()},
		replaced(accountObject{old.account()}, accountObject{account}))
	if account.Email == old.Email {
		return nil
	}
	if err := tx.moveBoundAddresses(account); err != nil {
		return err
	}
	return tx.followAddresses([]string{old.EmailKey, key})
}

// GetAccount finds an account, or a NotFoundError.
func (s *Store) GetAccount(ctx context.Context, id policies.AccountID) (Item[policies.Account], error) {
	row, err := getOne[accountRow](ctx, s, "account", string(id), sqlAccount, id)
	return row.item(), err
}

// FindAccountByEmail finds the account that has an address, compared without case,
// or a NotFoundError.
func (s *Store) FindAccountByEmail(ctx context.Context, email string) (Item[policies.Account], error) {
	row, err := getOne[accountRow](ctx, s, "account", email, sqlAccountByEmail, policies.EmailKey(email))
	return row.item(), err
}

// DeleteAccount removes an account with all it has: groups, environments, roles,
// custom policies, collaborations and their grants. Its own memberships become
// removed, and no account's any more. Errors: NotFoundError, PreconditionError.
func (s *Store) DeleteAccount(ctx context.Context, call Call, id policies.AccountID) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "account.delete", func(tx *tx, _ *Result[struct{}]) error {
		present := read[accountRow](tx, sqlAccount, id)
		owned := queueOwned(tx.queue, id)
		memberships := read[memberRow](tx, sqlMembersByAccount, id)
		if err := tx.flush(); err != nil {
			return err
		}
		account, there := present.one()
		if err := tx.match(there, account.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "account", ID: string(id)}
		}
		for _, m := range memberships.rows {
			next := m
			next.Status, next.Account, next.Bound, next.Grants = policies.StatusRemoved, nil, false, nil
			endInvitation(&next)
			if err := tx.replaceMember(m, next); err != nil {
				return err
			}
		}
		touches, err := owned.touches()
		if err != nil {
			return err
		}
		touches = append(touches, gone(accountObject{account.account()}))
		for _, sql := range []string{
			sqlDeleteGrantsOf, sqlDeleteMembersOf, sqlDeleteRolePoliciesOf, sqlDeleteRolesOf, sqlDeletePoliciesOf,
			sqlDeletePlacesOf, sqlDeleteEnvironmentsOf, sqlDeleteGroupsOf, sqlDeleteAccount,
		} {
			tx.change(sql, []any{id}, touches...)
		}
		return nil
	})
}

// owned is all that an account has.
type owned struct {
	groups       *query[groupRow]
	environments *query[environmentRow]
	policies     *query[policyRow]
	roles        *query[roleRow]
	members      *query[memberRow]
}

func queueOwned(queue *pgx.Batch, owner policies.AccountID) owned {
	return owned{
		groups:       readRows(queue, pgx.RowToStructByName[groupRow], sqlAllGroups, owner),
		environments: readRows(queue, pgx.RowToStructByName[environmentRow], sqlAllEnvironments, owner),
		policies:     readRows(queue, pgx.RowToStructByName[policyRow], sqlAllPolicies, owner),
		roles:        readRows(queue, pgx.RowToStructByName[roleRow], sqlAllRoles, owner),
		members:      readRows(queue, pgx.RowToStructByName[memberRow], sqlAllMembers, owner),
	}
}

// touches are the deletions of all of it, what points at others first.
func (o owned) touches() ([]touch, error) {
	var touches []touch
	for _, m := range o.members.rows {
		grants, err := m.grants()
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			touches = append(touches, gone(grantObject{m.Owner, m.ID, g}))
		}
	}
	for _, m := range o.members.rows {
		touches = append(touches, gone(memberObject{m}))
	}
	for _, r := range o.roles.rows {
		touches = append(touches, gone(roleObject{r.Owner, r.role()}))
	}
	for _, p := range o.policies.rows {
		touches = append(touches, gone(policyObject{p.Owner, p.policy()}))
	}
	for _, e := range o.environments.rows {
		touches = append(touches, gone(environmentObject{e.Owner, e.environment()}))
	}
	for _, g := range slices.Backward(o.groups.rows) { // parents stand first
		touches = append(touches, gone(groupObject{g.Owner, g.group()}))
	}
	return touches, nil
}

// getOne reads one row outside of a write.
func getOne[R any](ctx context.Context, s *Store, kind, id, sql string, args ...any) (row R, err error) {
	found, err := getAll[R](ctx, s, sql, args...)
	if err != nil {
		return row, err
	}
	if len(found) == 0 {
		return row, &policies.NotFoundError{Kind: kind, ID: id}
	}
	return found[0], nil
}

// AccountsAmong are those of some accounts that are there, in the order of the ids.
func (s *Store) AccountsAmong(ctx context.Context, ids []policies.AccountID) ([]policies.Account, error) {
	rows, err := getAll[accountRow](ctx, s, sqlAccountsAmong, ids)
	accounts := make([]policies.Account, len(rows))
	for i, r := range rows {
		accounts[i] = r.account()
	}
	return accounts, err
}

// getAll reads rows outside of a write.
func getAll[R any](ctx context.Context, s *Store, sql string, args ...any) ([]R, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, translate(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[R])
	return found, translate(err)
}
