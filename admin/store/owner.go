package store

import (
	"context"

	"github.com/usher-authz/usher/policies"
)

// ownerCheck tells whether the account in a path is there.
type ownerCheck struct {
	owner policies.AccountID
	found *query[accountRow]
}

func (tx *tx) readOwner(owner policies.AccountID) ownerCheck {
	return ownerCheck{owner, read[accountRow](tx, sqlAccount, owner)}
}

func (c ownerCheck) check() error {
	if _, ok := c.found.one(); !ok {
		return &policies.NotFoundError{Kind: "account", ID: string(c.owner)}
	}
	return nil
}

// Keep chooses the objects of a list by their ids; nil keeps all.
type Keep[K ~string] func(ctx context.Context, id K) (bool, error)

// listByID is a page of what an owner has, in the order of ids. sql takes the
// owner, the id to begin after, and a limit.
func listByID[R any, K ~string, T any](
	ctx context.Context, s *Store, list string, owner policies.AccountID, keep Keep[K], page Page, sql string, item func(R) T, id func(R) K,
) (List[T], error) {
	keys, err := decodeCursor(list, page.Cursor, "")
	if err != nil {
		return List[T]{}, err
	}
	rows, err := keepByID(ctx, s, owner, keep, K(keys[0]), page.size()+1, sql, id)
	if err != nil {
		return List[T]{}, err
	}
	if len(rows) == 0 {
		if _, err := s.GetAccount(ctx, owner); err != nil {
			return List[T]{}, err
		}
	}
	return paged(rows, page, item, func(r R) string { return encodeCursor(list, string(id(r))) }), nil
}

// keepByID reads up to size rows that are kept.
func keepByID[R any, K ~string](
	ctx context.Context, s *Store, owner policies.AccountID, keep Keep[K], after K, size int, sql string, id func(R) K,
) ([]R, error) {
	if keep == nil {
		return getAll[R](ctx, s, sql, owner, after, size)
	}
	var rows []R
	for {
		more, err := getAll[R](ctx, s, sql, owner, after, MaxPage)
		if err != nil {
			return nil, err
		}
		for _, row := range more {
			after = id(row)
			ok, err := keep(ctx, after)
			if err != nil {
				return nil, err
			}
			if ok {
				rows = append(rows, row)
			}
			if len(rows) == size {
				return rows, nil
			}
		}
		if len(more) < MaxPage {
			return rows, nil
		}
	}
}

// invalid is an error of one field.
func invalid(field, reason string) error {
	return &policies.InvalidError{Errors: []policies.FieldError{{Field: field, Reason: reason}}}
}
