package store

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

// kindErasure is the audit item of a revision that says that data of a person was
// erased. No decision rests on it.
const kindErasure policies.Kind = "erasure"

// ErasedEmail stands where the address of an erased account stood in what others keep
// of it: the records of ended collaborations.
const ErasedEmail = "erased@erased.invalid"

// eraseBatch is how many entries are erased by one statement.
const eraseBatch = 500

const (
	sqlMayErase = `select has_table_privilege('revisions', 'update') and has_table_privilege('changes', 'update')`
	// The addresses that an account had.
	sqlPersonalOf = `select personal from changes where owner = $1 and kind = 'account' and id = $1 and personal is not null`
	// What others have in the log of members: whom it is about is looked for in each.
	sqlWholePersonal = `select owner, revision, ordinal, before, after, personal from changes where kind = 'member' and personal is not null`

	sqlEndedRecords = selectMembers + ` where c.email_key = any ($1) and not c.bound and c.account is null and c.status = 'removed' order by c.owner, c.id`

	sqlErasePersonalOf = `update changes set personal = null, personal_salt = null where owner = $1 and kind = 'account' and personal is not null`
	sqlErasePersonal   = `update changes c set personal = null, personal_salt = null
from unnest($1::text[], $2::bigint[], $3::int[]) as e (owner, revision, ordinal)
where c.owner = e.owner and c.revision = e.revision and c.ordinal = e.ordinal`
	sqlWholeEraseAddresses = `update revisions set address_hash = coalesce(address_hash, sha256(address_salt || convert_to(address, 'UTF8'))),
    address = null, address_salt = null
where account = $1 and address is not null`
)

// Erasure is what [Store.Erase] did.
type Erasure struct {
	Revision policies.Revision // that says so in the log
	// Entries lost the data of the person, Addresses is of how many revisions the
	// network address went.
	Entries, Addresses int64
}

// erasureItem is the audit item of an erasure.
type erasureItem struct{ account policies.AccountID }

func (e erasureItem) key() objectKey {
	return objectKey{kind: kindErasure, owner: e.account, id: string(e.account)}
}
func (erasureItem) body() any     { return nil }
func (erasureItem) public() any   { return nil }
func (erasureItem) personal() any { return nil }

// Erase takes the data of a person out of the log and out of the records of ended
// collaborations: emails, names, and the network addresses from which the account
// acted. The account must have been deleted. The chain of hashes holds as before, since it
// is of salted hashes of what goes; a revision says that there was an erasure. It
// needs the role that the schema belongs to. An erasure that was interrupted may be
// run again. Errors: InUseError (the account is there).
func (s *Store) Erase(ctx context.Context, call Call, account policies.AccountID) (Erasure, error) {
	var may bool
	if err := s.pool.QueryRow(ctx, sqlMayErase).Scan(&may); err != nil {
		return Erasure{}, translate(err)
	}
	if !may {
		return Erasure{}, fmt.Errorf("this role may not change the log: connect as the one that the schema belongs to, as `usher migrate` does")
	}
	addresses, err := s.addressesOf(ctx, account)
	if err != nil {
		return Erasure{}, err
	}
	done := Erasure{}
	if done.Revision, err = s.eraseRecords(ctx, call, account, addresses); err != nil {
		return Erasure{}, err
	}
	if done.Entries, err = s.eraseMembers(ctx, account, addresses); err != nil {
		return done, err
	}
	// Last: what the addresses are known by, for whoever begins anew.
	for _, step := range []struct {
		sql   string
		count *int64
	}{{sqlWholeEraseAddresses, &done.Addresses}, {sqlErasePersonalOf, &done.Entries}} {
		tag, err := s.pool.Exec(ctx, step.sql, account)
		if err != nil {
			return done, fmt.Errorf("erase the data of %q in the log: %w", account, translate(err))
		}
		*step.count += tag.RowsAffected()
	}
	return done, nil
}

// addressesOf are the keys of all addresses that the account ever had.
func (s *Store) addressesOf(ctx context.Context, account policies.AccountID) (map[string]bool, error) {
	rows, err := getAll[struct{ Personal string }](ctx, s, sqlPersonalOf, account)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, r := range rows {
		emails, err := emailsIn(r.Personal)
		if err != nil {
			return nil, err
		}
		for _, email := range emails {
			keys[policies.EmailKey(email)] = true
		}
	}
	return keys, nil
}

// emailsIn are the addresses in the personal part of an entry.
func emailsIn(personal string) ([]string, error) {
	type person struct {
		Email string `json:"email"`
	}
	var pair struct {
		Before person `json:"before"`
		After  person `json:"after"`
	}
	if err := json.Unmarshal([]byte(personal), &pair); err != nil {
		return nil, fmt.Errorf("decode the data of a person in the log: %w", err)
	}
	var emails []string
	for _, email := range []string{pair.Before.Email, pair.After.Email} {
		if email != "" {
			emails = append(emails, email)
		}
	}
	return emails, nil
}

// eraseRecords writes the revision that says so, and clears the records that others
// keep of the account.
func (s *Store) eraseRecords(ctx context.Context, call Call, account policies.AccountID, addresses map[string]bool) (policies.Revision, error) {
	keys := make([]string, 0, len(addresses))
	for key := range addresses {
		keys = append(keys, key)
	}
	out, err := s.write(ctx, call, "audit.erase", func(tx *tx) error {
		present := read[accountRow](tx, sqlAccount, account)
		records := read[memberRow](tx, sqlEndedRecords, keys)
		if err := tx.flush(); err != nil {
			return err
		}
		if _, there := present.one(); there {
			return &policies.InUseError{Kind: "account", ID: string(account), Count: 1, Uses: []string{"it is there still: delete it first"}}
		}
		for _, m := range records.rows {
			next := m
			next.Email, next.EmailKey = ErasedEmail, policies.EmailKey(ErasedEmail)
			next.InvitedName, next.DisplayName, next.MemberDisplayName = "", "", ""
			if err := tx.replaceMember(m, next); err != nil {
				return err
			}
		}
		tx.draft.add(made(erasureItem{account}))
		return nil
	})
	return out.revision, err
}

type personalRow struct {
	Owner         policies.AccountID
	Revision      policies.Revision
	Ordinal       int
	Before, After *string
	Personal      string
}

// about tells whether an entry is about the account or one of its addresses.
func (r personalRow) about(account policies.AccountID, addresses map[string]bool) (bool, error) {
	for _, text := range []*string{r.Before, r.After} {
		if text == nil {
			continue
		}
		var body policies.MemberBody
		if err := json.Unmarshal([]byte(*text), &body); err != nil {
			return false, fmt.Errorf("decode an entry of revision %d: %w", r.Revision, err)
		}
		if body.Account != nil && *body.Account == account {
			return true, nil
		}
	}
	emails, err := emailsIn(r.Personal)
	for _, email := range emails {
		if addresses[policies.EmailKey(email)] {
			return true, err
		}
	}
	return false, err
}

// eraseMembers erases what other owners' entries have of the account.
func (s *Store) eraseMembers(ctx context.Context, account policies.AccountID, addresses map[string]bool) (int64, error) {
	rows, err := s.pool.Query(ctx, sqlWholePersonal)
	if err != nil {
		return 0, translate(err)
	}
	defer rows.Close()
	var erased int64
	var batch []personalRow
	flush := func() error {
		owners, revisions, ordinals := make([]string, len(batch)), make([]int64, len(batch)), make([]int32, len(batch))
		for i, r := range batch {
			owners[i], revisions[i], ordinals[i] = string(r.Owner), int64(r.Revision), int32(r.Ordinal)
		}
		tag, err := s.pool.Exec(ctx, sqlErasePersonal, owners, revisions, ordinals)
		erased += tag.RowsAffected()
		batch = batch[:0]
		return translate(err)
	}
	for rows.Next() {
		row, err := pgx.RowToStructByName[personalRow](rows)
		if err != nil {
			return erased, err
		}
		about, err := row.about(account, addresses)
		if err != nil {
			return erased, err
		}
		if about {
			batch = append(batch, row)
		}
		if len(batch) == eraseBatch {
			if err := flush(); err != nil {
				return erased, err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return erased, translate(err)
	}
	return erased, flush()
}
