package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/usher-authz/usher/policies"
)

// Outcome is what a logged decision came to.
type Outcome string

// The outcomes. OutcomeNone is that of an event whose result is neither: another
// document of an OPA, or one whose result was masked.
const (
	OutcomeAllow Outcome = "allow"
	OutcomeDeny  Outcome = "deny"
	OutcomeNone  Outcome = "none"
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{OutcomeAllow, OutcomeDeny, OutcomeNone}

// Logged is one decision as it was logged. Fields that the event does not have, or
// that were masked, are empty.
type Logged struct {
	ID           string // the event's decision_id
	At           time.Time
	ReceivedAt   time.Time
	Instance     string // labels.id of whoever decided
	Path         string
	Subject      string
	Action       string
	ResourceType string
	ResourceID   string
	Outcome      Outcome
	Reason       string
	Revision     *policies.Revision // nil: the event does not say
	Event        jsontext.Value     // as it was sent
	Place        int64              // among all that came in; 0: it came before places were given
}

// DecisionFilter chooses logged decisions; zero values choose all.
type DecisionFilter struct {
	Subject  string
	Action   string
	Resource policies.Resource
	Outcome  Outcome
	Reason   string
	Since    time.Time // included
	Until    time.Time // excluded
}

const (
	// A decision that was sent twice is kept once. Days that have no partition any
	// more are over: see [Store.LogDecisions].
	sqlInsertDecisions = `insert into decisions
    (at, id, received_at, instance, path, subject, action, resource_type, resource_id, outcome, reason, revision, event)
select unnest($1::timestamptz[]), unnest($2::text[]), $3, unnest($4::text[]), unnest($5::text[]), unnest($6::text[]), unnest($7::text[]),
    unnest($8::text[]), unnest($9::text[]), unnest($10::text[]), unnest($11::text[]), unnest($12::bigint[]), unnest($13::text[])
on conflict do nothing`

	sqlDecisionDays = `select min(relname) as first, max(relname) as last
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'decisions'::regclass`
	sqlKeepDecisions = `select keep_decisions($1, $2)`

	selectDecisions = `select at, id, received_at, instance, path, subject, action, resource_type, resource_id, outcome, reason, revision, event,
    coalesce(place, 0) as place from decisions where `
	// Parameters: what to begin before (time and id), since, outcome, reason, limit;
	// then what the index begins with, and what is left. Newest first.
	decisionsRange = `(at, id) < ($1, $2) and at <= $1 and at >= $3 and ($4 = '' or outcome = $4) and ($5 = '' or reason = $5)`
	decisionsOrder = ` order by at desc, id desc limit $6`

	sqlDecision           = selectDecisions + `id = $1 order by at desc limit 1`
	sqlDecisions          = selectDecisions + decisionsRange + decisionsOrder
	sqlDecisionsOfSubject = selectDecisions + decisionsRange + ` and subject = $7 and ($8 = '' or action = $8)
    and ($9 = '' or resource_type = $9 and resource_id = $10)` + decisionsOrder
	sqlDecisionsOfResource = selectDecisions + decisionsRange + ` and resource_type = $7 and resource_id = $8 and ($9 = '' or action = $9)` + decisionsOrder
	sqlDecisionsOfAction   = selectDecisions + decisionsRange + ` and action = $7` + decisionsOrder
	sqlDecisionsDenied     = selectDecisions + `(at, id) < ($1, $2) and at <= $1 and at >= $3 and outcome = 'deny' and ($4 = '' or reason = $4)
order by at desc, id desc limit $5`

	// Waits for the writers whose places are taken and that have not committed. Others who
	// would write wait behind it: it gives up on a writer that does not come to its end.
	sqlPatience     = `set local lock_timeout = '5s'`
	sqlNoneOnTheWay = `select pg_advisory_xact_lock(hashtext('usher decisions received'))`
	sqlLastPlace    = `select case when is_called then last_value else 0 end from decisions_received_seq`
	// In the order in which they came in: place is after one, and up to another.
	sqlDecisionsReceived = selectDecisions + `place > $1 and place <= $2 and ($3 = '' or subject = $3) and ($4 = '' or action = $4)
    and ($5 = '' or resource_type = $5 and resource_id = $6) and ($7 = '' or outcome = $7) and ($8 = '' or reason = $8)
    and at >= $9 and at < $10 order by place limit $11`
)

const decisionPartition = "decisions_20060102" // as time.Format has it

type decisionRow struct {
	At           time.Time
	ID           string
	ReceivedAt   time.Time
	Instance     string
	Path         string
	Subject      string
	Action       string
	ResourceType string
	ResourceID   string
	Outcome      Outcome
	Reason       string
	Revision     *policies.Revision
	Event        string
	Place        int64
}

func (r decisionRow) logged() Logged {
	return Logged{
		ID: r.ID, At: policies.NormalizeTime(r.At), ReceivedAt: policies.NormalizeTime(r.ReceivedAt), Instance: r.Instance, Path: r.Path,
		Subject: r.Subject, Action: r.Action, ResourceType: r.ResourceType, ResourceID: r.ResourceID,
		Outcome: r.Outcome, Reason: r.Reason, Revision: r.Revision, Event: jsontext.Value(r.Event), Place: r.Place,
	}
}

// LogDecisions keeps decisions. One whose day is over, or that is there already, is
// left out; one from the future (a clock that is wrong) is filed under the present.
// It returns how many were new. ReceivedAt is filled in here. Before
// [Store.KeepDecisions] made a place for today it is an [UnavailableError].
func (s *Store) LogDecisions(ctx context.Context, decisions []Logged) (int, error) {
	now := policies.NormalizeTime(s.clock())
	first, last, err := s.decisionDays(ctx)
	if err != nil {
		return 0, err
	}
	if !now.Before(last) {
		return 0, &UnavailableError{Err: errors.New("there is no partition for the decisions of today")}
	}
	var rows decisionColumns
	for _, d := range decisions {
		at := policies.NormalizeTime(d.At)
		if at.After(now.Add(time.Minute)) || !at.Before(last) {
			at = now
		}
		if at.Before(first) {
			continue
		}
		rows.add(at, d)
	}
	if len(rows.at) == 0 {
		return 0, nil
	}
	tag, err := s.pool.Exec(ctx, sqlInsertDecisions, rows.at, rows.id, now, rows.instance, rows.path, rows.subject, rows.action,
		rows.resourceType, rows.resourceID, rows.outcome, rows.reason, rows.revision, rows.event)
	if err != nil {
		return 0, translate(err)
	}
	return int(tag.RowsAffected()), nil
}

// decisionDays are the days that have a partition: from first until before last.
func (s *Store) decisionDays(ctx context.Context) (first, last time.Time, err error) {
	rows, err := s.pool.Query(ctx, sqlDecisionDays)
	if err != nil {
		return first, last, translate(err)
	}
	names, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct{ First, Last *string }])
	if err != nil || names.First == nil {
		return first, last, translate(err)
	}
	if first, err = time.Parse(decisionPartition, *names.First); err != nil {
		return first, last, err
	}
	if last, err = time.Parse(decisionPartition, *names.Last); err != nil {
		return first, last, err
	}
	return first, last.AddDate(0, 0, 1), nil
}

// decisionColumns are rows as columns, for unnest.
type decisionColumns struct {
	at                                                                                    []time.Time
	id, instance, path, subject, action, resourceType, resourceID, outcome, reason, event []string
	revision                                                                              []*policies.Revision
}

func (c *decisionColumns) add(at time.Time, d Logged) {
	c.at = append(c.at, at)
	for _, v := range []struct {
		into *[]string
		text string
	}{
		{&c.id, d.ID}, {&c.instance, d.Instance}, {&c.path, d.Path}, {&c.subject, d.Subject}, {&c.action, d.Action},
		{&c.resourceType, d.ResourceType}, {&c.resourceID, d.ResourceID}, {&c.outcome, string(d.Outcome)}, {&c.reason, d.Reason},
		{&c.event, string(d.Event)},
	} {
		*v.into = append(*v.into, v.text)
	}
	c.revision = append(c.revision, d.Revision)
}

// Decisions lists logged decisions, the newest first. Errors: CursorError.
func (s *Store) Decisions(ctx context.Context, f DecisionFilter, page Page) (List[Logged], error) {
	// The filter may be long; a cursor is not.
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Subject, f.Action, f.Resource.String(), string(f.Outcome), f.Reason}, "\x00")))
	list := "decisions/" + hex.EncodeToString(sum[:8])
	since, before := f.times()
	keys, err := decodeCursor(list, page.Cursor, before.Format(time.RFC3339Nano), "")
	if err != nil {
		return List[Logged]{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, keys[0])
	if err != nil {
		return List[Logged]{}, &CursorError{Cursor: page.Cursor}
	}
	args := []any{at, keys[1], since, f.Outcome, f.Reason, page.size() + 1}
	sql := sqlDecisions
	switch {
	case f.Subject != "":
		sql = sqlDecisionsOfSubject
		args = append(args, f.Subject, f.Action, string(f.Resource.Type), f.Resource.ID)
	case f.Resource.Type != "":
		sql = sqlDecisionsOfResource
		args = append(args, string(f.Resource.Type), f.Resource.ID, f.Action)
	case f.Action != "":
		sql = sqlDecisionsOfAction
		args = append(args, f.Action)
	case f.Outcome == OutcomeDeny:
		sql = sqlDecisionsDenied
		args = []any{at, keys[1], since, f.Reason, page.size() + 1}
	}
	rows, err := getAll[decisionRow](ctx, s, sql, args...)
	if err != nil {
		return List[Logged]{}, err
	}
	return paged(rows, page, decisionRow.logged, func(r decisionRow) string {
		return encodeCursor(list, r.At.UTC().Format(time.RFC3339Nano), r.ID)
	}), nil
}

// times are the filter's, where there are none the first and the last that there can be.
func (f DecisionFilter) times() (since pgtype.Timestamptz, before time.Time) {
	since, before = pgtype.Timestamptz{Time: f.Since, Valid: true}, f.Until
	if f.Since.IsZero() {
		since = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	if before.IsZero() {
		before = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return since, before
}

// LastPlace is the place of the decision that came in last: what comes in from now on
// has a later one. For a moment nobody writes decisions. A writer that does not come to
// its end makes it an [UnavailableError].
func (s *Store) LastPlace(ctx context.Context) (place int64, err error) {
	batch := &pgx.Batch{}
	batch.Queue(sqlBegin)
	batch.Queue(sqlPatience)
	batch.Queue(sqlNoneOnTheWay)
	batch.Queue(sqlLastPlace).QueryRow(func(row pgx.Row) error { return row.Scan(&place) })
	batch.Queue(sqlCommit)
	err = s.pool.SendBatch(ctx, batch).Close()
	return place, translate(err)
}

// placesAtOnce is how many places [Store.DecisionsReceived] looks at: a filter that few
// fit must not make it read all.
const placesAtOnce = 10_000

// DecisionsReceived are decisions in the order in which they came in: at most limit of
// those after one place, up to another that was a [Store.LastPlace]. It returns up to
// which place it looked.
func (s *Store) DecisionsReceived(ctx context.Context, f DecisionFilter, after, last int64, limit int) (found []Logged, place int64, err error) {
	last = min(last, after+placesAtOnce)
	since, until := f.times()
	rows, err := getAll[decisionRow](ctx, s, sqlDecisionsReceived, after, last, f.Subject, f.Action,
		string(f.Resource.Type), f.Resource.ID, f.Outcome, f.Reason, since, until, limit)
	if err != nil {
		return nil, after, err
	}
	for _, row := range rows {
		found = append(found, row.logged())
	}
	if len(rows) == limit {
		last = rows[limit-1].Place
	}
	return found, last, nil
}

// Decision is one logged decision. Errors: NotFoundError.
func (s *Store) Decision(ctx context.Context, id string) (Logged, error) {
	row, err := getOne[decisionRow](ctx, s, "decision", id, sqlDecision, id)
	return row.logged(), err
}

// daysAhead is how many days the partitions are made ahead: decisions can be kept
// that long while nobody calls KeepDecisions.
const daysAhead = 3

// KeepDecisions makes partitions ahead, and drops what is older than retention:
// whole days. It may be called by several replicas at once.
func (s *Store) KeepDecisions(ctx context.Context, retention time.Duration) error {
	now := s.clock().UTC()
	first := now.Add(-retention).Truncate(24 * time.Hour)
	last := now.AddDate(0, 0, daysAhead).Truncate(24 * time.Hour)
	date := func(t time.Time) pgtype.Date { return pgtype.Date{Time: t, Valid: true} }
	if _, err := s.pool.Exec(ctx, sqlKeepDecisions, date(first), date(last)); err != nil {
		return translate(err)
	}
	_, err := s.pool.Exec(ctx, sqlDropOPAStatuses, now.Add(-opaStatusTTL))
	return translate(err)
}
