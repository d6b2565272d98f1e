package ondemand

import (
	"fmt"
	"maps"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// generation is a platform, an epoch and a policy in force. Facts of one
// generation mean nothing in another.
type generation struct {
	id       uint32
	platform string
	epoch    uint64
	policy   *authz.Policy
	prefix   string // of keys in Redis
}

// root is all that the sidecar holds of the platform at one revision: the policy
// in force, the tokens, and what notices touched. It is immutable but for index,
// which may be ahead of it, and is replaced at each revision.
type root struct {
	generation *generation
	revision   policies.Revision
	hash       policies.Hash
	index      *index
	tokens     tokens
	// replaced is closed when a later root is in force.
	replaced chan struct{}
}

// usable tells whether f is true at r's revision, and if it is not, why. A fact
// that is found true is dated r's revision: it then needs no more look-ups until
// the next.
func (r *root) usable(f *fact) (bool, outcome) {
	to := f.until()
	switch {
	case f.from > r.revision:
		return false, outcomeAhead
	case to >= r.revision:
		return true, outcomeHit
	}
	names, n := f.touchedBy()
	switch r.index.judge(to, names[:n]) {
	case untouched:
		f.extend(r.revision)
		return true, outcomeHit
	case forgotten:
		return false, outcomeOld
	case touched:
	}
	return false, outcomeStale
}

// tokens are the service tokens, immutable.
type tokens struct {
	byHash map[string]authz.Token
	hashes map[string]string // of each id
}

// with gives the tokens after o. The copy costs little: tokens are few, and change
// rarely.
func (t tokens) with(o policies.Object) (tokens, error) {
	next := tokens{byHash: maps.Clone(t.byHash), hashes: maps.Clone(t.hashes)}
	if next.byHash == nil {
		next = tokens{byHash: map[string]authz.Token{}, hashes: map[string]string{}}
	}
	delete(next.byHash, next.hashes[o.ID])
	delete(next.hashes, o.ID)
	if o.Deleted() {
		return next, nil
	}
	var body policies.TokenBody
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return t, fmt.Errorf("decode token %q: %w", o.ID, err)
	}
	next.hashes[o.ID] = body.Hash
	next.byHash[body.Hash] = authz.Token{ID: o.ID, Hash: body.Hash, Scopes: body.Scopes, ExpiresAt: body.ExpiresAt}
	return next, nil
}
