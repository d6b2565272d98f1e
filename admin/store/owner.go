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

// listByID is a page of what an owner has, in the order of ids. sql takes the
// owner, the id to begin after, and a limit.
func listByID[R, T any](
	ctx context.Context, s *Store, list string, owner policies.AccountID, page Page, sql string, item func(R) T, id func(R) string,
) (List[T], error) {
	keys, err := decodeCursor(list, page.Cursor, "")
	if err != nil {
		return List[T]{}, err
	}
	rows, err := getAll[R](ctx, s, sql, owner, keys[0], page.size()+1)
	if err != nil {
		return List[T]{}, err
	}
	if len(rows) == 0 {
		if _, err := s.GetAccount(ctx, owner); err != nil {
			return List[T]{}, err
		}
	}
	return paged(rows, page, item, func(r R) string { return encodeCursor(list, id(r)) }), nil
}

// invalid is an error of one field.
func invalid(field, reason string) error {
	return &policies.InvalidError{Errors: []policies.FieldError{{Field: field, Reason: reason}}}
}
