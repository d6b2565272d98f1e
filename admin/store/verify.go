package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

// verifyBatch is how many revisions are walked between two looks at ctx and the
// caller; what is in memory is one revision.
const verifyBatch = 1000

const (
	sqlVerifyHead = headColumns + `, (select coalesce(max(revision), 0) from revisions) as last from platform`
	sqlVerifyEnd  = `select coalesce((select revision from revisions where revision > $1 order by revision offset $2 limit 1), $3)`

	verifyColumns = `select revision, at, objects, audit_hash, hash, action, token, token_name, account, local, request_id, owners,
    address, address_salt, address_hash, latest from revisions`
	sqlVerifyRevisions = verifyColumns + ` where revision > $1 and revision <= $2 order by revision`
	sqlVerifyNext      = verifyColumns + ` where revision > $1 order by revision limit 1`
	sqlVerifyItems     = `select c.revision, c.ordinal, c.kind, c.owner, c.id, c.before, c.after, c.personal, c.personal_salt, c.personal_hash, c.run
from revisions r join lateral
    (select revision, ordinal, kind, owner, id, before, after, personal, personal_salt, personal_hash, run from changes a
        where a.owner = any (r.owners) and a.revision = r.revision) c on true
where r.revision > $1 and r.revision <= $2 order by r.revision, c.ordinal`
	// Entries that no revision has, and that a list would show nevertheless.
	sqlWholeStray = `select c.revision, c.ordinal, c.kind, c.owner, c.id
from changes c left join revisions r on r.revision = c.revision
where r.revision is null or c.owner <> all (r.owners) order by c.revision, c.ordinal limit 1`
)

// VerifyOptions are what is optional of [Store.Verify].
type VerifyOptions struct {
	// Heads are of earlier times, kept elsewhere: the log must lead through each of
	// them. Without one, a log that was rewritten from some point to its end shows
	// nothing.
	Heads []Header
	// Progress is told how many revisions were walked of how many; it is called from
	// one goroutine, a few times a second.
	Progress func(done, total uint64)
}

// VerifyReport is what [Store.Verify] found.
type VerifyReport struct {
	// Header is where the walk ended: the head, if nothing is broken.
	Header
	// Revisions and Entries were walked. Of Erased of them data of persons is gone,
	// as it may be; what is left of these was verified.
	Revisions, Entries, Erased uint64
	// Broken is the first link that does not hold; nil: the log is as it was written.
	Broken *BrokenLink
}

// BrokenLink is where the log is not what was written.
type BrokenLink struct {
	Revision policies.Revision
	// Entry is the ordinal of the entry at fault, -1 if it is the revision itself, or
	// if it cannot be told which.
	Entry int
	Kind  policies.Kind // of the entry
	ID    string
	// What differs, in words that name columns.
	What string
}

func (b *BrokenLink) String() string {
	at := fmt.Sprintf("revision %d", b.Revision)
	if b.Entry >= 0 {
		at += fmt.Sprintf(", entry %d (%s %s)", b.Entry, b.Kind, b.ID)
	}
	return at + ": " + b.What
}

type verifyHead struct {
	head

	Last policies.Revision
}

// Verify walks the log from its beginning to its end: recomputes every hash from
// the columns that it is of, and holds the chain against the head and against the
// heads in o. The error tells that the log could not be read; that it is not what was
// written is in the report. Writers are not held up, and what they add meanwhile is not
// walked. It needs to read platform, revisions, changes and policies_in_force only.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	rows, err := s.pool.Query(ctx, sqlVerifyHead)
	if err != nil {
		return VerifyReport{}, translate(err)
	}
	end, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[verifyHead])
	if err != nil {
		return VerifyReport{}, translate(err)
	}
	w := &walk{s: s, end: end, heads: slices.Clone(o.Heads)}
	w.report.Platform = end.Platform
	for _, h := range w.heads {
		if h.Platform != end.Platform {
			w.report.Broken = &BrokenLink{Revision: h.Revision, Entry: -1, What: "the head that was kept elsewhere is of platform " + h.Platform +
				", and this database of platform " + end.Platform}
			return w.report, nil
		}
	}
	for w.report.Revision < end.Last && w.report.Broken == nil {
		if err := w.batch(ctx); err != nil {
			return w.report, translate(err)
		}
		if o.Progress != nil {
			o.Progress(w.report.Revisions, max(end.Last.Count(), w.report.Revisions))
		}
	}
	if w.report.Broken == nil {
		w.report.Broken, err = w.finish(ctx)
	}
	return w.report, translate(err)
}

// walk is one verification under way.
type walk struct {
	s      *Store
	end    verifyHead
	heads  []Header // not yet met
	report VerifyReport
	policy string // the entry of the policy in force; empty: there is none
	latest time.Time
}

// revisionRow is a row of revisions, and itemRow one of changes.
type revisionRow struct {
	Revision                 policies.Revision
	At                       time.Time
	Objects                  []byte
	AuditHash, Hash          []byte
	Action, Token, TokenName string
	Account                  policies.AccountID
	Local                    bool
	RequestID                string
	Owners                   []policies.AccountID
	Address                  *string
	AddressSalt, AddressHash []byte
	Latest                   time.Time
}

type itemRow struct {
	Revision                   policies.Revision
	Ordinal                    int
	Kind                       policies.Kind
	Owner                      policies.AccountID
	ID                         string
	Before, After, Personal    *string
	PersonalSalt, PersonalHash []byte
	Run                        *int
}

type strayRow struct {
	Revision policies.Revision
	Ordinal  int
	Kind     policies.Kind
	Owner    policies.AccountID
	ID       string
}

// batch walks on, up to the first broken link. Revisions and entries come by two
// connections, in step.
func (w *walk) batch(ctx context.Context) error {
	after := w.report.Revision
	var last policies.Revision
	if err := w.s.pool.QueryRow(ctx, sqlVerifyEnd, after, verifyBatch-1, w.end.Last).Scan(&last); err != nil {
		return err
	}
	last = min(last, w.end.Last)
	revisions, err := w.s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer revisions.Release()
	entries, err := w.s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer entries.Release()
	items := &peeking[itemRow]{}
	if items.rows, err = entries.Query(ctx, sqlVerifyItems, after, last); err != nil {
		return err
	}
	defer items.rows.Close()
	rows, err := revisions.Query(ctx, sqlVerifyRevisions, after, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row, err := pgx.RowToStructByName[revisionRow](rows)
		if err != nil {
			return err
		}
		own, err := items.while(func(i itemRow) bool { return i.Revision == row.Revision })
		if err != nil {
			return err
		}
		if w.report.Broken, err = w.verify(ctx, row, own); err != nil || w.report.Broken != nil {
			return err
		}
	}
	return rows.Err()
}

// peeking reads rows with one in the hand.
type peeking[T any] struct {
	rows pgx.Rows
	next *T
}

// while takes rows as long as they are wanted.
func (a *peeking[T]) while(wanted func(T) bool) ([]T, error) {
	var all []T
	for {
		if a.next == nil {
			if !a.rows.Next() {
				return all, a.rows.Err()
			}
			row, err := pgx.RowToStructByName[T](a.rows)
			if err != nil {
				return nil, err
			}
			a.next = &row
		}
		if !wanted(*a.next) {
			return all, nil
		}
		all = append(all, *a.next)
		a.next = nil
	}
}

// verify holds one revision against the one before, and steps on to it.
func (w *walk) verify(ctx context.Context, row revisionRow, items []itemRow) (*BrokenLink, error) {
	if broken := w.inOrder(row, items); broken != nil {
		return broken, nil
	}
	if w.latest.Before(row.At) {
		w.latest = row.At
	}
	if !row.Latest.Equal(w.latest) {
		return &BrokenLink{Revision: row.Revision, Entry: -1, What: "at or latest was changed: latest is not the latest time up to here"}, nil
	}
	audit, broken := row.auditHash(items)
	if broken != nil {
		return broken, nil
	}
	if chain := row.chain(w.report.Hash, audit); audit != policies.Hash(row.AuditHash) || chain != policies.Hash(row.Hash) {
		return w.explain(ctx, row, items, audit)
	}
	if i := outOfRuns(items); i >= 0 {
		return &BrokenLink{
			Revision: row.Revision, Entry: i, Kind: items[i].Kind, ID: items[i].ID, What: "run was changed, here or before: a list by kind would not show it",
		}, nil
	}
	w.report.Revision, w.report.Hash, w.report.Time = row.Revision, policies.Hash(row.Hash), policies.NormalizeTime(row.At)
	w.report.Revisions++
	w.report.Entries += uint64(len(items))
	w.report.Erased += erased(row, items)
	for _, item := range items {
		if item.Kind == policies.KindPolicyInForce && item.After != nil {
			w.policy = *item.After
		}
	}
	var at *Header
	w.heads = slices.DeleteFunc(w.heads, func(h Header) bool {
		if h.Revision == row.Revision && h.Hash != w.report.Hash {
			at = &h
		}
		return h.Revision == row.Revision
	})
	if at != nil {
		return &BrokenLink{Revision: row.Revision, Entry: -1, What: fmt.Sprintf(
			"its hash is %s, and the head that was kept elsewhere has %s: the log was written anew, here or before", w.report.Hash, at.Hash)}, nil
	}
	return nil, nil
}

// inOrder tells whether the revision's number, owners and entries are those that
// follow.
func (w *walk) inOrder(row revisionRow, items []itemRow) *BrokenLink {
	before := w.report.Revision
	switch {
	case row.Revision == before+1:
	case row.Revision.Epoch() > before.Epoch() && row.Revision.Count() == 0 && len(items) == 1 && items[0].Kind == kindEpoch: // epochs between may be lost
	default:
		return &BrokenLink{Revision: before + 1, Entry: -1, What: fmt.Sprintf("it is missing: after revision %d comes revision %d", before, row.Revision)}
	}
	owners := make([]policies.AccountID, 0, 1)
	for i, item := range items {
		if item.Ordinal != i {
			return &BrokenLink{Revision: row.Revision, Entry: i, Kind: item.Kind, ID: item.ID, What: fmt.Sprintf(
				"where ordinal %d belongs stands ordinal %d: an entry was deleted or added, or its owner, revision or ordinal changed", i, item.Ordinal)}
		}
		if !slices.Contains(owners, item.Owner) {
			owners = append(owners, item.Owner)
		}
	}
	switch {
	case len(items) == 0:
		return &BrokenLink{Revision: row.Revision, Entry: -1, What: "it has no entries: they are missing from changes, or owners was changed"}
	case !slices.Equal(owners, row.Owners):
		return &BrokenLink{Revision: row.Revision, Entry: -1, What: fmt.Sprintf("owners is %q, and its entries have %q", row.Owners, owners)}
	}
	return nil
}

// outOfRuns is the first entry that is not found by the runs of its kind, -1 if all are.
func outOfRuns(items []itemRow) int {
	end := 0 // of the run
	for i, item := range items {
		switch first := i == end; {
		case first && (item.Run == nil || *item.Run < 1 || *item.Run > len(items)-i):
			return i
		case first:
			end = i + *item.Run
		case item.Run != nil || item.Kind != items[i-1].Kind || item.Owner != items[i-1].Owner:
			return i
		}
	}
	return -1
}

// auditHash hashes who did what, from the columns; or finds what cannot have been
// written so.
func (r revisionRow) auditHash(items []itemRow) (policies.Hash, *BrokenLink) {
	part := auditPart{
		Action: r.Action, Time: policies.NormalizeTime(r.At), Token: r.Token, TokenName: r.TokenName, Account: r.Account,
		Local: r.Local, RequestID: r.RequestID, Items: make([]auditItem, 0, len(items)),
	}
	address := r.AddressHash
	if r.Address != nil {
		sum := saltedSum(r.AddressSalt, *r.Address)
		if address != nil && !slices.Equal(address, sum) {
			return policies.Hash{}, &BrokenLink{
				Revision: r.Revision, Entry: -1, What: "address, address_salt or address_hash was changed: they do not belong together",
			}
		}
		address = sum
	}
	part.Address = hex.EncodeToString(address)
	for i, item := range items {
		if what := item.fault(); what != "" {
			return policies.Hash{}, &BrokenLink{Revision: r.Revision, Entry: i, Kind: item.Kind, ID: item.ID, What: what}
		}
		part.Items = append(part.Items, auditItem{
			Kind: item.Kind, Owner: item.Owner, ID: item.ID,
			Before: rawOrNull(item.Before), After: rawOrNull(item.After), Personal: hex.EncodeToString(item.PersonalHash),
		})
	}
	sum, err := part.hash()
	if err != nil {
		return policies.Hash{}, &BrokenLink{Revision: r.Revision, Entry: -1, What: "a column holds what cannot have been written: " + err.Error()}
	}
	return sum, nil
}

// fault is what is wrong with an entry by itself.
func (i itemRow) fault() string {
	switch {
	case !canonicalText(i.Before):
		return "before was changed: it is not in the form that is written"
	case !canonicalText(i.After):
		return "after was changed: it is not in the form that is written"
	case i.Personal != nil && !slices.Equal(saltedSum(i.PersonalSalt, *i.Personal), i.PersonalHash):
		return "personal, personal_salt or personal_hash was changed: they do not belong together"
	}
	return ""
}

func canonicalText(text *string) bool {
	if text == nil {
		return true
	}
	value := rawOrNull(text).Clone()
	return value.Canonicalize() == nil && string(value) == *text && *text != "null"
}

// chain is the hash that the revision must have.
func (r revisionRow) chain(previous, audit policies.Hash) policies.Hash {
	return policies.ChainHash(previous, r.Revision, sha256.Sum256(r.Objects), audit)
}

// erased counts what data of persons was taken out.
func erased(row revisionRow, items []itemRow) uint64 {
	var n uint64
	if row.Address == nil && row.AddressHash != nil {
		n++
	}
	for _, item := range items {
		if item.Personal == nil && item.PersonalHash != nil {
			n++
		}
	}
	return n
}

// finish holds the end of the walk against the head, and looks for what no link
// has.
func (w *walk) finish(ctx context.Context) (*BrokenLink, error) {
	r := w.report
	switch {
	case r.Revision != w.end.Revision:
		return &BrokenLink{Revision: max(r.Revision, w.end.Revision), Entry: -1, What: fmt.Sprintf(
			"platform.revision is %d, and the log ends at revision %d", w.end.Revision, r.Revision)}, nil
	case !slices.Equal(r.Hash[:], w.end.Hash):
		return &BrokenLink{Revision: r.Revision, Entry: -1, What: fmt.Sprintf("platform.hash is %x, and the log's last hash %s", w.end.Hash, r.Hash)}, nil
	}
	for _, h := range w.heads {
		what := fmt.Sprintf("it is missing, and a head of it was kept elsewhere: the log ends at revision %d", r.Revision)
		if h.Revision < r.Revision {
			what = "it is missing, and a head of it was kept elsewhere: it was lost or cut off, and the log goes on in another epoch"
		}
		if h.Revision > 0 || h.Hash != (policies.Hash{}) {
			return &BrokenLink{Revision: h.Revision, Entry: -1, What: what}, nil
		}
	}
	stray, err := getAll[strayRow](ctx, w.s, sqlWholeStray)
	if err != nil {
		return nil, err
	}
	for _, i := range stray {
		if i.Revision <= w.end.Last {
			return &BrokenLink{Revision: i.Revision, Entry: i.Ordinal, Kind: i.Kind, ID: i.ID, What: fmt.Sprintf(
				"the entry of owner %q belongs to no revision: it was added, or its revision or owner was changed", i.Owner)}, nil
		}
	}
	return w.policyInForce(ctx)
}

// policyInForce holds the policy that decides against the log.
func (w *walk) policyInForce(ctx context.Context) (*BrokenLink, error) {
	broken := func(what string) *BrokenLink {
		return &BrokenLink{Revision: w.report.Revision, Entry: -1, What: what}
	}
	var logged struct {
		Digest *policies.Hash `json:"digest"`
	}
	if err := json.Unmarshal([]byte(w.policy), &logged); w.policy != "" && err != nil {
		return nil, fmt.Errorf("read the entry of the policy in force: %w", err)
	}
	if logged.Digest == nil && w.end.PolicyDigest != nil || logged.Digest != nil && !slices.Equal(logged.Digest[:], w.end.PolicyDigest) {
		return broken("platform.policy_digest is not that of the policy which the log put in force"), nil
	}
	rows, err := getAll[policyInForceRow](ctx, w.s, sqlPolicyInForce)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if !hasDigest(row.Body, w.end.PolicyDigest) {
			return broken("policies_in_force.body was changed: it does not have its digest"), nil
		}
	}
	return nil, nil
}

// hasDigest tells whether body is a policy in force with that digest.
func hasDigest(body string, digest []byte) bool {
	var p policies.PolicyInForce
	return json.Unmarshal([]byte(body), &p) == nil && p.Verify() == nil && slices.Equal(p.Digest[:], digest)
}

// explain finds out which part of a revision that does not follow was changed.
func (w *walk) explain(ctx context.Context, row revisionRow, items []itemRow, audit policies.Hash) (*BrokenLink, error) {
	broken := &BrokenLink{Revision: row.Revision, Entry: -1}
	stored := policies.Hash(row.AuditHash)
	chained := row.chain(w.report.Hash, stored) == policies.Hash(row.Hash)
	switch {
	case chained: // so objects and audit_hash are as written
		i, what, err := w.differs(ctx, row, items)
		if err != nil {
			return nil, err
		}
		if broken.What = what; i >= 0 {
			broken.Entry, broken.Kind, broken.ID = i, items[i].Kind, items[i].ID
		}
		if what == "" {
			broken.What = "action, at, token, token_name, account, local, request_id or address was changed, or an entry: the audit hash does not follow from them"
		}
	case audit != stored && row.chain(w.report.Hash, audit) == policies.Hash(row.Hash):
		broken.What = "audit_hash was changed"
	case audit == stored:
		follows, err := w.nextFollows(ctx, row, row.chain(w.report.Hash, audit))
		if err != nil {
			return nil, err
		}
		if broken.What = "objects was changed: the hash does not follow from it"; follows {
			broken.What = "hash was changed: the next one follows from what it should be"
		}
	default:
		broken.What = "objects or hash was changed, and what the audit hash is of"
	}
	return broken, nil
}

// nextFollows tells whether what comes after the row follows from hash.
func (w *walk) nextFollows(ctx context.Context, row revisionRow, hash policies.Hash) (bool, error) {
	next, err := getAll[revisionRow](ctx, w.s, sqlVerifyNext, row.Revision)
	if err != nil {
		return false, err
	}
	if len(next) == 0 {
		return slices.Equal(hash[:], w.end.Hash), nil
	}
	return next[0].chain(hash, policies.Hash(next[0].AuditHash)) == policies.Hash(next[0].Hash), nil
}
