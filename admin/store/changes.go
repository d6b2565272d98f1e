package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlChanges      = `select revision, at, objects, audit_hash, hash from revisions where revision > $1 order by revision limit $2`
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
