package store

import "github.com/usher-authz/usher/policies"

// A record follows its address until it is accepted, and its account ever after
// (domain.md, Life of a collaboration). So when addresses change hands, the records
// that are not bound get the account that has their address now, and the bound
// ones the address that their account has now.

const (
	sqlLostAddress = selectMembers + `
where c.email_key = any ($1::text[]) and not c.bound and c.status <> 'removed' and c.account is not null
  and not exists (select from accounts a where a.id = c.account and a.email_key = c.email_key)
order by c.owner, c.id`
	// Not where the owner has a live record of that account, nor the owner's own.
	sqlFoundAddress = selectMembers + `
join accounts a on a.email_key = c.email_key and a.id <> c.owner
where c.email_key = any ($1::text[]) and not c.bound and c.status <> 'removed' and c.account is null
  and not exists (select from collaborations o where o.owner = c.owner and o.account = a.id and o.status <> 'removed')
order by c.owner, c.id`
	// Invitations of what has become the owner's own address, or that of an account
	// that is the owner's member by another record.
	sqlMootAddress = selectMembers + `
join accounts a on a.email_key = c.email_key
where c.email_key = any ($1::text[]) and not c.bound and c.status <> 'removed' and c.account is null
  and (a.id = c.owner or exists (select from collaborations o where o.owner = c.owner and o.account = a.id and o.status <> 'removed'))
order by c.owner, c.id`
	sqlBoundTo = selectMembers + `
where c.account = $1 and c.bound
order by c.owner, c.id`
	sqlAccountsByEmails = `select id, email, email_key, display_name, created_at, revision from accounts where email_key = any ($1::text[])`
	// The removed records that give way to live ones of the same account.
	sqlRemovedOf = selectMembers + `
join unnest($1::text[], $2::text[]) as live (owner, account) on c.owner = live.owner and c.account = live.account
where c.status = 'removed'
order by c.owner, c.id`
)

// followAddresses gives the records of addresses to whoever has these now. An
// invitation whose address has come to the owner itself, or to an account that is a
// member by another record, is removed: nobody is a member of their own account, or
// twice of another's. The accounts must have been written before.
func (tx *tx) followAddresses(keys []string) error {
	lost := read[memberRow](tx, sqlLostAddress, keys)
	if err := tx.flush(); err != nil {
		return err
	}
	for _, m := range lost.rows {
		next := m
		next.Account = nil
		if err := tx.replaceMember(m, next); err != nil {
			return err
		}
	}
	found, moot := read[memberRow](tx, sqlFoundAddress, keys), read[memberRow](tx, sqlMootAddress, keys)
	accounts := read[accountRow](tx, sqlAccountsByEmails, keys)
	if err := tx.flush(); err != nil {
		return err
	}
	for _, m := range moot.rows {
		next := m
		next.Status, next.Grants = policies.StatusRemoved, nil
		endInvitation(&next)
		if err := tx.replaceMember(m, next); err != nil {
			return err
		}
	}
	if len(found.rows) == 0 {
		return nil
	}
	byKey := make(map[string]policies.AccountID, len(accounts.rows))
	for _, a := range accounts.rows {
		byKey[a.EmailKey] = a.ID
	}
	var owners, members []string
	for _, m := range found.rows {
		owners, members = append(owners, string(m.Owner)), append(members, string(byKey[m.EmailKey]))
	}
	if err := tx.giveWay(owners, members); err != nil {
		return err
	}
	for _, m := range found.rows {
		next := m
		account := byKey[m.EmailKey]
		next.Account = &account
		if err := tx.replaceMember(m, next); err != nil {
			return err
		}
	}
	return nil
}

// giveWay takes the account from removed records, for live ones of the same pairs
// of owner and account.
func (tx *tx) giveWay(owners, accounts []string) error {
	removed := read[memberRow](tx, sqlRemovedOf, owners, accounts)
	if err := tx.flush(); err != nil {
		return err
	}
	for _, m := range removed.rows {
		next := m
		next.Account, next.Bound = nil, false
		if err := tx.replaceMember(m, next); err != nil {
			return err
		}
	}
	return nil
}

// moveBoundAddresses gives the records that are bound to an account its address.
func (tx *tx) moveBoundAddresses(account policies.Account) error {
	bound := read[memberRow](tx, sqlBoundTo, account.ID)
	if err := tx.flush(); err != nil {
		return err
	}
	for _, m := range bound.rows {
		next := m
		next.Email, next.EmailKey = account.Email, policies.EmailKey(account.Email)
		if err := tx.replaceMember(m, next); err != nil {
			return err
		}
	}
	return nil
}
