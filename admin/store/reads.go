package store

import (
	"context"
	"strconv"
	"time"

	"github.com/usher-authz/usher/policies"
)

// MinReadRetention is how long reads are kept at least: the schema sees to it.
const MinReadRetention = 7 * 24 * time.Hour

const (
	sqlInsertReads = `insert into reads (at, token, account, address, request_id, operation, owner, path)
select unnest($1::timestamptz[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]), unnest($6::text[]),
    unnest($7::text[]), unnest($8::text[])`
	// A few at a time, so that no one waits for all.
	sqlDropOldReads = `delete from reads where id = any (array(select id from reads where at < $1 order by at limit 10000))`

	selectReads = `select id, at, token, account, address, request_id, operation, owner, path from reads`
	// Newest first.
	sqlReads   = selectReads + ` where id < $1 and ($2 = '' or token = $2) order by id desc limit $3`
	sqlReadsOf = selectReads + ` where owner = $4 and id < $1 and ($2 = '' or token = $2) order by id desc limit $3`
)

// Read is one look at other people's permissions, or at the audit.
type Read struct {
	ID        int64 // made by the database
	At        time.Time
	Token     string
	Account   policies.AccountID // that acted; empty: the service itself
	Address   string
	RequestID string
	Operation string
	Owner     policies.AccountID // whose; empty: the platform's
	Path      string             // with the query
}

// LogReads keeps reads.
func (s *Store) LogReads(ctx context.Context, reads []Read) error {
	n := len(reads)
	at := make([]time.Time, n)
	var columns [7][]string
	for i := range columns {
		columns[i] = make([]string, n)
	}
	for i, r := range reads {
		at[i] = policies.NormalizeTime(r.At)
		for c, value := range []string{r.Token, string(r.Account), r.Address, r.RequestID, r.Operation, string(r.Owner), r.Path} {
			columns[c][i] = value
		}
	}
	_, err := s.pool.Exec(ctx, sqlInsertReads, at, columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6])
	return translate(err)
}

// DropReads takes away the oldest reads before a time, a bounded number at once, and
// tells whether there may be more.
func (s *Store) DropReads(ctx context.Context, before time.Time) (more bool, err error) {
	tag, err := s.pool.Exec(ctx, sqlDropOldReads, before)
	return tag.RowsAffected() > 0, translate(err)
}

// ReadFilter chooses reads; zero values choose all.
type ReadFilter struct {
	Owner policies.AccountID
	Token string
}

// ListReads lists reads, the newest first. Errors: CursorError.
func (s *Store) ListReads(ctx context.Context, filter ReadFilter, page Page) (List[Read], error) {
	list := "reads/" + string(filter.Owner)
	keys, err := decodeCursor(list, page.Cursor, strconv.FormatInt(1<<62, 10))
	if err != nil {
		return List[Read]{}, err
	}
	before, err := strconv.ParseInt(keys[0], 10, 64)
	if err != nil {
		return List[Read]{}, &CursorError{Cursor: page.Cursor}
	}
	sql, args := sqlReads, []any{before, filter.Token, page.size() + 1}
	if filter.Owner != "" {
		sql, args = sqlReadsOf, append(args, filter.Owner)
	}
	rows, err := getAll[Read](ctx, s, sql, args...)
	if err != nil {
		return List[Read]{}, err
	}
	return paged(rows, page, func(r Read) Read { r.At = policies.NormalizeTime(r.At); return r },
		func(r Read) string { return encodeCursor(list, strconv.FormatInt(r.ID, 10)) }), nil
}
