package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"

	"github.com/usher-authz/usher/policies"
)

// StateReport is what [Store.VerifyState] found.
type StateReport struct {
	// Revision is the one at which the tables were read.
	Revision policies.Revision
	// Objects were compared.
	Objects uint64
	// Differs is the first object of the tables that is not what the log says; nil: they
	// agree.
	Differs *StateDifference
}

// StateDifference is an object of which the tables and the log say different things.
type StateDifference struct {
	Kind  policies.Kind
	Owner policies.AccountID // empty for what belongs to the platform
	ID    string
	What  string
}

func (d *StateDifference) String() string {
	whose := "of the platform"
	if d.Owner != "" {
		whose = fmt.Sprintf("of owner %q", d.Owner)
	}
	return fmt.Sprintf("%s %q %s: %s", d.Kind, d.ID, whose, d.What)
}

// VerifyState rebuilds from the log what decisions rest on, and holds the tables
// against it, both at one revision: a row that was changed behind the log's back shows.
// The policy in force is held against the log by [Store.Verify]. It keeps a hash of each
// object in memory. Writers are not held up.
func (s *Store) VerifyState(ctx context.Context) (StateReport, error) {
	var report StateReport
	err := s.Snapshot(ctx, func(header Header, objects iter.Seq2[policies.Object, error]) error {
		report.Revision = header.Revision
		logged, err := s.logged(ctx, header.Revision)
		if err != nil {
			return err
		}
		for o, err := range objects {
			if err != nil {
				return err
			}
			if o.Kind == policies.KindPolicyInForce {
				continue
			}
			key := keyOf(o)
			want, there := logged[key]
			delete(logged, key)
			report.Objects++
			switch {
			case !there:
				report.Differs = key.differs("the tables have it, and the log does not")
			case want != sha256.Sum256(o.Body):
				report.Differs = key.differs("the tables do not have what the log last wrote of it")
			}
			if report.Differs != nil {
				return nil
			}
		}
		report.Differs = missing(logged)
		return nil
	})
	return report, translate(err)
}

func (k objectKey) differs(what string) *StateDifference {
	return &StateDifference{Kind: k.kind, Owner: k.owner, ID: k.id, What: what}
}

// missing is the first of what the log has and the tables have not.
func missing(logged map[objectKey]policies.Hash) *StateDifference {
	var first *objectKey
	for key := range logged {
		if first == nil || cmp.Or(cmp.Compare(key.owner, first.owner), cmp.Compare(key.kind, first.kind), cmp.Compare(key.id, first.id)) < 0 {
			first = &key
		}
	}
	if first == nil {
		return nil
	}
	return first.differs("the log has it, and the tables do not")
}

// logged are the hashes of what the log last wrote of each object, up to a revision.
func (s *Store) logged(ctx context.Context, last policies.Revision) (map[objectKey]policies.Hash, error) {
	hashes := map[objectKey]policies.Hash{}
	for after := policies.Revision(0); after < last; {
		rows, err := getAll[changeRow](ctx, s, sqlChangesUpTo, after, last, verifyBatch)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return hashes, nil
		}
		for _, row := range rows {
			objects, err := row.change().DecodeObjects()
			if err != nil {
				return nil, fmt.Errorf("read the objects of revision %d: %w", row.Revision, err)
			}
			for _, o := range objects {
				switch {
				case o.Kind == policies.KindPolicyInForce:
				case o.Deleted():
					delete(hashes, keyOf(o))
				default:
					hashes[keyOf(o)] = sha256.Sum256(o.Body)
				}
			}
			after = row.Revision
		}
	}
	return hashes, nil
}
