package store

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// AuditFilter chooses entries of the log; zero values choose all.
type AuditFilter struct {
	// Owner wants what belongs to an account, the account itself included.
	Owner policies.AccountID
	Since time.Time // included
	Until time.Time // excluded
	// Actor is the id of a token, or of an account that acted or was acted as.
	Actor  string
	Action string
	Kind   policies.Kind
	ID     string // of the object
	// Member wants a collaboration's record and grants.
	Member     policies.CollaborationID
	Descending bool
}

// Entry is one object that one revision touched. Before and After are JSON objects,
// null when it was or is not there. Data of persons that was erased is missing.
type Entry struct {
	Revision policies.Revision
	Ordinal  int // within the revision, from 0
	Time     time.Time
	Actor    Actor
	Action   string // what was called, such as "grant.put"
	Kind     policies.Kind
	Owner    policies.AccountID
	ID       string
	Before   jsontext.Value
	After    jsontext.Value
}

const sqlTouched = `select revision, at as time, action, owners from revisions where revision > $1 order by revision limit $2`

type entryRow struct {
	Revision  policies.Revision
	Ordinal   int
	At        time.Time
	Token     string
	TokenName string
	Account   policies.AccountID
	Local     bool
	RequestID string
	Address   string
	Action    string
	Kind      policies.Kind
	Owner     policies.AccountID
	ID        string
	Before    *string
	After     *string
	Personal  *string
}

func (r entryRow) entry() (Entry, error) {
	e := Entry{
		Revision: r.Revision, Ordinal: r.Ordinal, Time: policies.NormalizeTime(r.At), Action: r.Action, Kind: r.Kind, Owner: r.Owner, ID: r.ID,
		Actor: Actor{Token: r.Token, TokenName: r.TokenName, Account: r.Account, Address: r.Address, RequestID: r.RequestID, Local: r.Local},
	}
	var personal personalPair
	if r.Personal != nil {
		if err := json.Unmarshal([]byte(*r.Personal), &personal); err != nil {
			return e, err
		}
	}
	var err error
	if e.Before, err = joinAudit(r.Before, personal.Before); err != nil {
		return e, err
	}
	e.After, err = joinAudit(r.After, personal.After)
	return e, err
}

func joinAudit(text *string, personal jsontext.Value) (jsontext.Value, error) {
	if text == nil {
		return jsontext.Value("null"), nil
	}
	joined, err := auditText(true, jsontext.Value(*text), personal)
	if err != nil {
		return nil, err
	}
	return jsontext.Value(*joined), nil
}

// Position is a place in the log: an entry of a revision.
type Position struct {
	Revision policies.Revision
	Ordinal  int
}

// Before tells whether p stands before q.
func (p Position) Before(q Position) bool {
	return p.Revision < q.Revision || p.Revision == q.Revision && p.Ordinal < q.Ordinal
}

// The places before the first and after the last entry, as queries take them.
const (
	beforeAll  = -1
	lastInside = math.MaxInt32
)

// Audit lists the log in the order of revisions. Errors: CursorError.
func (s *Store) Audit(ctx context.Context, filter AuditFilter, page Page) (List[Entry], error) {
	list := "audit/" + string(filter.Owner)
	first := [2]string{"0", strconv.Itoa(beforeAll)}
	if filter.Descending {
		list += "/down"
		first = [2]string{policies.MaxRevision.String(), strconv.Itoa(lastInside)}
	}
	keys, err := decodeCursor(list, page.Cursor, first[0], first[1])
	if err != nil {
		return List[Entry]{}, err
	}
	revision, err1 := policies.ParseRevision(keys[0])
	ordinal, err2 := strconv.ParseInt(keys[1], 10, 32)
	if err1 != nil || err2 != nil {
		return List[Entry]{}, &CursorError{Cursor: page.Cursor}
	}
	rows, err := s.entries(ctx, filter, Position{revision, int(ordinal)}, page.size()+1)
	if err != nil {
		return List[Entry]{}, err
	}
	return pagedErr(rows, page, entryRow.entry, func(r entryRow) string {
		return encodeCursor(list, r.Revision.String(), strconv.Itoa(r.Ordinal))
	})
}

// EntriesAfter are up to limit entries after a place in the log, in order.
func (s *Store) EntriesAfter(ctx context.Context, filter AuditFilter, after Position, limit int) ([]Entry, error) {
	filter.Descending = false
	rows, err := s.entries(ctx, filter, after, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(rows))
	for _, r := range rows {
		e, err := r.entry()
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// entries reads from a place on, in the order of the filter.
func (s *Store) entries(ctx context.Context, filter AuditFilter, from Position, limit int) ([]entryRow, error) {
	first, last := policies.Revision(0), policies.MaxRevision
	if !filter.Since.IsZero() || !filter.Until.IsZero() {
		bounds, err := getAll[struct{ First, Last policies.Revision }](ctx, s, sqlEntryBounds, timeOrNull(filter.Since), timeOrNull(filter.Until))
		if err != nil || len(bounds) == 0 {
			return nil, err
		}
		first, last = bounds[0].First, bounds[0].Last
	}
	end := last
	switch {
	case filter.Descending && last < from.Revision:
		from, end = Position{last, lastInside}, first
	case filter.Descending:
		end = first
	case first > from.Revision:
		from = Position{first, beforeAll}
	}
	args := []any{
		timeOrNull(filter.Since), timeOrNull(filter.Until), filter.Actor, filter.Action, filter.Kind, filter.ID, filter.Member,
		from.Revision, from.Ordinal, limit, end,
	}
	if filter.Owner != "" {
		args = append(args, filter.Owner)
	}
	return getAll[entryRow](ctx, s, filter.query(), args...)
}

// Touched is whose objects a revision touched: accounts, and "" for the platform.
type Touched struct {
	Revision policies.Revision
	Time     time.Time
	Action   string
	Owners   []policies.AccountID
}

// TouchedAfter are up to limit revisions after one, in order.
func (s *Store) TouchedAfter(ctx context.Context, after policies.Revision, limit int) ([]Touched, error) {
	return getAll[Touched](ctx, s, sqlTouched, after, limit)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
