package store

import (
	"context"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

const (
	selectOPAStatuses = `select instance, received_at, revision, errors, body from opa_statuses`
	sqlOPAStatuses    = selectOPAStatuses + ` where instance > $1 order by instance limit $2`
	sqlPutOPAStatus   = `insert into opa_statuses (instance, received_at, revision, errors, body) values ($1, $2, $3, $4, $5)
on conflict on constraint opa_statuses_pkey do update
    set received_at = excluded.received_at, revision = excluded.revision, errors = excluded.errors, body = excluded.body
    where opa_statuses.received_at <= excluded.received_at`
	sqlDropOPAStatuses = `delete from opa_statuses where received_at < $1`
)

// opaStatusTTL is how long the status of an OPA is kept that sends none any more.
const opaStatusTTL = 24 * time.Hour

// OPAStatus is what a stock OPA last said of itself.
type OPAStatus struct {
	Instance   string // labels.id
	ReceivedAt time.Time
	Revision   string // of usher's bundle as it is active there; empty: it does not say
	Errors     int    // bundles that it could not load
	Body       jsontext.Value
}

type opaStatusRow struct {
	Instance   string
	ReceivedAt time.Time
	Revision   string
	Errors     int
	Body       string
}

func (r opaStatusRow) status() OPAStatus {
	return OPAStatus{r.Instance, policies.NormalizeTime(r.ReceivedAt), r.Revision, r.Errors, jsontext.Value(r.Body)}
}

// PutOPAStatus keeps the status of an OPA, in the place of its last one. ReceivedAt
// is filled in here.
func (s *Store) PutOPAStatus(ctx context.Context, status OPAStatus) error {
	_, err := s.pool.Exec(ctx, sqlPutOPAStatus, status.Instance, policies.NormalizeTime(s.clock()), status.Revision, status.Errors, string(status.Body))
	return translate(err)
}

// OPAStatuses lists the OPAs by instance. Errors: CursorError.
func (s *Store) OPAStatuses(ctx context.Context, page Page) (List[OPAStatus], error) {
	const list = "opa_statuses"
	keys, err := decodeCursor(list, page.Cursor, "")
	if err != nil {
		return List[OPAStatus]{}, err
	}
	rows, err := getAll[opaStatusRow](ctx, s, sqlOPAStatuses, keys[0], page.size()+1)
	if err != nil {
		return List[OPAStatus]{}, err
	}
	return paged(rows, page, opaStatusRow.status, func(r opaStatusRow) string { return encodeCursor(list, r.Instance) }), nil
}
