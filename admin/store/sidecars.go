package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	// In the order of ids, so that two servers do not wait for each other.
	sqlPutReports = `insert into sidecars (id, sequence, name, version, mode, address, revision, fresh_at, checks_per_second, leaving, reported_at)
select id, sequence, name, version, mode, address, revision, now() - make_interval(secs => age), checks, leaving, now() - make_interval(secs => ago)
from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::float8[], $9::float8[], $10::bool[], $11::float8[])
    r (id, sequence, name, version, mode, address, revision, age, checks, leaving, ago)
order by id
on conflict (id) do update
    set sequence = excluded.sequence, name = excluded.name, version = excluded.version, mode = excluded.mode, address = excluded.address,
        revision = excluded.revision, fresh_at = excluded.fresh_at, checks_per_second = excluded.checks_per_second,
        leaving = excluded.leaving, reported_at = excluded.reported_at
    where sidecars.sequence < excluded.sequence`
	sqlDropReports = `delete from sidecars where reported_at < now() - make_interval(secs => $1)`

	selectSidecars = `select id, name, version, mode, address, revision, extract(epoch from now() - fresh_at)::float8 as age, checks_per_second
from sidecars where not leaving and reported_at > now() - make_interval(secs => $1)`
	sqlSidecars = selectSidecars + ` and (name, id) > ($2, $3) order by name, id limit $4`
	sqlBehind   = selectSidecars + ` and revision < $2 order by revision, name, id limit $3`

	sqlReceipt = `select r.at, count(s.id) as connected, count(s.id) filter (where s.revision >= $2) as applied
from revisions r left join sidecars s on not s.leaving and s.reported_at > now() - make_interval(secs => $1)
where r.revision = $2 group by r.at`

	sqlFleet = `select count(*) as connected, count(*) filter (where s.revision < p.revision) as behind,
    coalesce(extract(epoch from now() - min(s.fresh_at)), 0)::float8 as age
from platform p left join sidecars s on not s.leaving and s.reported_at > now() - make_interval(secs => $1)`
)

const (
	// SidecarLease is how long after its last report a sidecar counts as connected.
	SidecarLease = 10 * time.Second
	// maxNamed is how many sidecars a receipt names.
	maxNamed = 100
	// receiptPause is between two looks at what sidecars have reported.
	receiptPause = 200 * time.Millisecond
	// dropReportsAfter is when what a sidecar reported is dropped.
	dropReportsAfter = time.Minute
)

// Sidecar is what a connected sidecar said of itself.
type Sidecar struct {
	ID              string // of the process
	Name            string // for people; two may have the same
	Version         string
	Mode            string
	Address         string
	Revision        policies.Revision // that it has applied
	Age             *float64          // seconds since its data was known to be the platform's; nil: it never was
	ChecksPerSecond float64
}

// SidecarReport is a sidecar's word about itself.
type SidecarReport struct {
	Sidecar

	Sequence uint64 // of the sidecar's reports: an older one does not replace a newer one
	Leaving  bool
	At       time.Time // when it came, by this process's clock
}

// PutReports keeps reports, no two of one sidecar. now is the time by the clock of
// their At.
func (s *Store) PutReports(ctx context.Context, reports []SidecarReport, now time.Time) error {
	slices.SortFunc(reports, func(a, b SidecarReport) int { return cmp.Compare(a.ID, b.ID) })
	n := len(reports)
	var texts [5][]string
	for i := range texts {
		texts[i] = make([]string, n)
	}
	sequences, revisions := make([]int64, n), make([]int64, n)
	ages, checks, leaving, agos := make([]*float64, n), make([]float64, n), make([]bool, n), make([]float64, n)
	for i, r := range reports {
		for c, text := range []string{r.ID, r.Name, r.Version, r.Mode, r.Address} {
			texts[c][i] = text
		}
		sequences[i], revisions[i] = int64(r.Sequence), int64(r.Revision)
		checks[i], leaving[i], agos[i] = r.ChecksPerSecond, r.Leaving, max(now.Sub(r.At), 0).Seconds()
		if r.Age != nil {
			age := *r.Age + agos[i]
			ages[i] = &age
		}
	}
	_, err := s.pool.Exec(ctx, sqlPutReports, texts[0], sequences, texts[1], texts[2], texts[3], texts[4], revisions, ages, checks, leaving, agos)
	return translate(err)
}

// DropReports drops what sidecars reported that are gone.
func (s *Store) DropReports(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, sqlDropReports, dropReportsAfter.Seconds())
	return translate(err)
}

// Sidecars lists the connected sidecars by name. Errors: CursorError.
func (s *Store) Sidecars(ctx context.Context, page Page) (List[Sidecar], error) {
	const list = "sidecars"
	keys, err := decodeCursor(list, page.Cursor, "", "")
	if err != nil {
		return List[Sidecar]{}, err
	}
	rows, err := getAll[Sidecar](ctx, s, sqlSidecars, SidecarLease.Seconds(), keys[0], keys[1], page.size()+1)
	if err != nil {
		return List[Sidecar]{}, err
	}
	return paged(rows, page, func(r Sidecar) Sidecar { return r }, func(r Sidecar) string { return encodeCursor(list, r.Name, r.ID) }), nil
}

// Receipt says which sidecars have a revision.
type Receipt struct {
	Revision  policies.Revision
	Time      time.Time // when it was committed
	Connected int
	Applied   int       // of the connected ones
	Behind    []Sidecar // the others, the furthest behind first; 100 at most
}

// Receipt is the present one of a revision. Errors: NotFoundError.
func (s *Store) Receipt(ctx context.Context, revision policies.Revision) (Receipt, error) {
	found, err := getAll[struct {
		At                 time.Time
		Connected, Applied int
	}](ctx, s, sqlReceipt, SidecarLease.Seconds(), revision)
	if err != nil {
		return Receipt{}, err
	}
	if len(found) == 0 {
		return Receipt{}, &policies.NotFoundError{Kind: "revision", ID: revision.String()}
	}
	r := Receipt{Revision: revision, Time: policies.NormalizeTime(found[0].At), Connected: found[0].Connected, Applied: found[0].Applied}
	if r.Applied < r.Connected {
		r.Behind, err = getAll[Sidecar](ctx, s, sqlBehind, SidecarLease.Seconds(), revision, maxNamed)
	}
	return r, err
}

// AwaitApplied is the receipt of a revision once every connected sidecar has it, or
// when limit has passed. Errors: NotFoundError.
func (s *Store) AwaitApplied(ctx context.Context, revision policies.Revision, limit time.Duration) (Receipt, error) {
	end := time.NewTimer(limit)
	defer end.Stop()
	pause := time.NewTicker(receiptPause)
	defer pause.Stop()
	for {
		r, err := s.Receipt(ctx, revision)
		if err != nil || r.Applied == r.Connected {
			return r, err
		}
		select {
		case <-pause.C:
		case <-end.C:
			return r, nil
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// Fleet is all connected sidecars in a few numbers.
type Fleet struct {
	Connected int
	Behind    int     // those without the present revision
	Age       float64 // of the oldest data, in seconds
}

// Fleet counts the connected sidecars.
func (s *Store) Fleet(ctx context.Context) (Fleet, error) {
	rows, err := s.pool.Query(ctx, sqlFleet, SidecarLease.Seconds())
	if err != nil {
		return Fleet{}, translate(err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Fleet])
	if errors.Is(err, pgx.ErrNoRows) {
		return Fleet{}, errors.New("the database has no platform: run `usher migrate`")
	}
	return f, translate(err)
}
