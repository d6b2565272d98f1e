package store

import (
	"encoding/base64"

	"github.com/go-json-experiment/json"
)

// A cursor is the key of the last item of a page, as a JSON array, behind the name
// of the list that it belongs to, in base64: opaque, and of no use in another list.

func encodeCursor(list string, keys ...string) string {
	data, err := json.Marshal(append([]string{list}, keys...))
	if err != nil {
		return "" // strings from the database are valid UTF-8
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeCursor gives the keys; those of a list's beginning for an empty cursor.
func decodeCursor(list, cursor string, first ...string) ([]string, error) {
	if cursor == "" {
		return first, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, &CursorError{Cursor: cursor}
	}
	var parts []string
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != len(first)+1 || parts[0] != list {
		return nil, &CursorError{Cursor: cursor}
	}
	return parts[1:], nil
}

// size is how many items a page has at most.
func (p Page) size() int {
	switch {
	case p.Limit <= 0:
		return DefaultPage
	case p.Limit > MaxPage:
		return MaxPage
	default:
		return p.Limit
	}
}

// paged cuts rows, of which one more than a page was asked for, to a page.
func paged[R, T any](rows []R, page Page, item func(R) T, cursor func(R) string) List[T] {
	list := List[T]{Items: make([]T, 0, min(len(rows), page.size()))}
	for i, row := range rows {
		if i == page.size() {
			list.NextCursor = cursor(rows[i-1])
			break
		}
		list.Items = append(list.Items, item(row))
	}
	return list
}

// pagedErr is paged for items that may fail to decode.
func pagedErr[R, T any](rows []R, page Page, item func(R) (T, error), cursor func(R) string) (List[T], error) {
	var failed error
	list := paged(rows, page, func(r R) T {
		t, err := item(r)
		if err != nil {
			failed = err
		}
		return t
	}, cursor)
	return list, failed
}
