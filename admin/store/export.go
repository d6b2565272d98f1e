package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlBeginSnapshot  = `begin isolation level repeatable read read only` //nolint:dupword // SQL says so
	sqlMemberAccounts = `select id, email, email_key, display_name, created_at, revision from accounts
where id in (select c.account from collaborations c where c.owner = $1 and c.account is not null)`
)

// Export is the document of an account, as [Store.Import] takes it, at one revision,
// which is the item's. Removed members are not in it. Errors: NotFoundError.
func (s *Store) Export(ctx context.Context, account policies.AccountID) (Item[policies.Document], error) {
	batch := &pgx.Batch{}
	batch.Queue(sqlBeginSnapshot)
	heads := readRows(batch, pgx.RowToStructByName[head], sqlHead)
	self := readRows(batch, pgx.RowToStructByName[accountRow], sqlAccount, account)
	known := readRows(batch, pgx.RowToStructByName[accountRow], sqlMemberAccounts, account)
	all := queueOwned(batch, account)
	batch.Queue(sqlCommit)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Item[policies.Document]{}, translate(err)
	}
	head, ok := heads.one()
	if !ok {
		return Item[policies.Document]{}, errors.New("the database has no platform: run `usher migrate`")
	}
	owner, there := self.one()
	if !there {
		return Item[policies.Document]{}, &policies.NotFoundError{Kind: "account", ID: string(account)}
	}
	accounts := make(map[policies.AccountID]accountRow, len(known.rows))
	for _, a := range known.rows {
		accounts[a.ID] = a
	}
	d, err := all.document(owner, accounts)
	return Item[policies.Document]{Value: d, ETag: etag(head.Revision), Revision: head.Revision}, err
}

func (o owned) document(owner accountRow, accounts map[policies.AccountID]accountRow) (policies.Document, error) {
	d := policies.Document{Account: owner.account()}
	for _, g := range o.groups.rows {
		d.Groups = append(d.Groups, g.group())
	}
	for _, e := range o.environments.rows {
		d.Environments = append(d.Environments, e.environment())
	}
	for _, p := range o.policies.rows {
		d.Policies = append(d.Policies, p.policy())
	}
	for _, r := range o.roles.rows {
		d.Roles = append(d.Roles, r.role())
	}
	for _, m := range o.members.rows {
		if m.Status == policies.StatusRemoved {
			continue
		}
		grants, err := m.grants()
		if err != nil {
			return d, err
		}
		member := policies.DocumentMember{DisplayName: m.DisplayName, Status: m.Status, Grants: grants}
		member.Account = policies.DocumentAccount{ID: m.Account, Email: m.Email, DisplayName: m.InvitedName}
		if m.Account != nil {
			a := accounts[*m.Account]
			member.Account.Email, member.Account.DisplayName = a.Email, a.DisplayName
		}
		d.Members = append(d.Members, member)
	}
	return d.Normalize(), nil
}
