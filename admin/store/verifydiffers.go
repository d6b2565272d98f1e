package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

const sqlVerifyBefore = `select after from changes where owner = $1 and revision < $2 and kind = $3 and id = $4 order by revision desc limit 1`

// differs finds the entry of a revision that was changed, given that its objects are
// as they were written: by what the objects say stands after it, then by what the log
// says stood before it. Without luck it gives -1 and nothing.
func (w *walk) differs(ctx context.Context, row revisionRow, items []itemRow) (entry int, what string, err error) {
	var objects []policies.Object
	if err := json.Unmarshal(row.Objects, &objects); err != nil {
		return -1, "", fmt.Errorf("decode the objects of revision %d: %w", row.Revision, err) // their hash is right: a bug
	}
	bodies := map[objectKey]jsontext.Value{}
	for _, o := range objects {
		bodies[keyOf(o)] = o.Body
	}
	for i, item := range items {
		key := objectKey{item.Kind, item.Owner, item.ID}
		body, there := bodies[key]
		delete(bodies, key)
		if there && item.Kind != policies.KindToken && item.Kind != policies.KindPolicyInForce && !holds(item.After, body) {
			return i, "after was changed: the objects of the revision say otherwise", nil
		}
	}
	for key := range bodies {
		return -1, fmt.Sprintf("the entry of %s %q of owner %q is missing, or its kind, owner or id was changed", key.kind, key.id, key.owner), nil
	}
	for i, item := range items {
		stood, err := getAll[struct{ After *string }](ctx, w.s, sqlVerifyBefore, item.Owner, row.Revision, item.Kind, item.ID)
		if err != nil {
			return -1, "", err
		}
		var after *string
		if len(stood) > 0 {
			after = stood[0].After
		}
		if item.Kind != kindEpoch && item.Kind != kindErasure && !samePointer(after, item.Before) {
			return i, "before was changed (or kind, owner or id): it is not what stood there until then", nil
		}
	}
	return -1, "", nil
}

// keyOf is the key of an object's entry.
func keyOf(o policies.Object) objectKey {
	key := objectKey{kind: o.Kind, owner: o.Owner, id: o.ID}
	if o.Kind == policies.KindAccount {
		key.owner = policies.AccountID(o.ID)
	}
	return key
}

// holds tells whether an entry's text has all that body has; null: it has none.
func holds(text *string, body jsontext.Value) bool {
	if text == nil || string(body) == "null" {
		return text == nil && string(body) == "null"
	}
	var all, some map[string]jsontext.Value
	if json.Unmarshal([]byte(*text), &all) != nil || json.Unmarshal(body, &some) != nil {
		return false
	}
	for name, value := range some {
		if !bytes.Equal(all[name], value) {
			return false
		}
	}
	return true
}
