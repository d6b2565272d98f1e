package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlChanges   = `select revision, at, objects, audit_hash, hash from revisions where revision > $1 order by revision limit $2`
	sqlChangesOf = `select r.objects
from (select distinct revision from changes where owner = $1 and revision > $2 and revision <= $3 order by revision offset 0) c
    join revisions r on r.revision = c.revision order by r.revision`
	sqlRevisionHash = `select hash from revisions where revision = $1`
)

type changeRow struct {
	Revision  policies.Revision
	At        time.Time
	Objects   []byte
	AuditHash []byte
	Hash      []byte
}

func (r changeRow) change() policies.Change {
	return policies.Change{
		Revision: r.Revision, Time: policies.NormalizeTime(r.At), Objects: r.Objects,
		AuditHash: policies.Hash(r.AuditHash), Hash: policies.Hash(r.Hash),
	}
}

// Head is the platform, its present revision, and that one's hash.
func (s *Store) Head(ctx context.Context) (Header, error) {
	rows, err := s.pool.Query(ctx, sqlHead)
	if err != nil {
		return Header{}, translate(err)
	}
	h, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[head])
	return h.header(), translate(err)
}

func (h head) header() Header {
	header := Header{Platform: h.Platform, Revision: h.Revision, Time: policies.NormalizeTime(h.ChangedAt)}
	copy(header.Hash[:], h.Hash)
	return header
}

// Changes are up to limit changes after a revision, in order; none if there are none
// yet.
func (s *Store) Changes(ctx context.Context, after policies.Revision, limit int) ([]policies.Change, error) {
	rows, err := getAll[changeRow](ctx, s, sqlChanges, after, limit)
	if err != nil {
		return nil, err
	}
	changes := make([]policies.Change, 0, len(rows))
	for _, r := range rows {
		changes = append(changes, r.change())
	}
	return changes, nil
}

// RevisionHash is the hash of a revision, and whether the log has it: a reader that
// knows a pair that the log does not have has seen commits that were lost. The
// revision 0, before everything, has the zero hash.
func (s *Store) RevisionHash(ctx context.Context, revision policies.Revision) (policies.Hash, bool, error) {
	if revision == 0 {
		return policies.Hash{}, true, nil
	}
	rows, err := s.pool.Query(ctx, sqlRevisionHash, revision)
	if err != nil {
		return policies.Hash{}, false, translate(err)
	}
	hashes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(hashes) == 0 {
		return policies.Hash{}, false, translate(err)
	}
	return policies.Hash(hashes[0]), true, nil
}

// ChangesOf are the objects of owner that the revisions after one, up to another,
// touched: each as the last of them left it.
func (s *Store) ChangesOf(ctx context.Context, owner policies.AccountID, after, last policies.Revision) ([]policies.Object, error) {
	rows, err := getAll[struct{ Objects []byte }](ctx, s, sqlChangesOf, owner, after, last)
	if err != nil {
		return nil, err
	}
	var touched []policies.Object
	index := map[objectKey]int{}
	for _, r := range rows {
		objects, err := policies.Change{Objects: r.Objects}.DecodeObjects()
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			key := keyOf(o)
			if i, ok := index[key]; ok {
				touched[i] = o
			} else if key.owner == owner {
				index[key] = len(touched)
				touched = append(touched, o)
			}
		}
	}
	return touched, nil
}
