package authz

import (
	"github.com/usher-authz/usher/policies"
)

// bodies lets objects whose bodies are the same, byte by byte, share what is made of
// them while a state is edited: an owner's grants give a few sets of roles, its
// environments stand in a few groups, and many owners have the same roles. It saves
// their memory, and most of the reading.
type bodies struct {
	owner        policies.AccountID // of environments and grants, which name what is its
	environments map[string]*environment
	grants       map[string]*grant
	roles        map[string]*role
}

// maxBodies bounds a map: what is forgotten is only held twice.
const maxBodies = 10_000

func newBodies() bodies {
	return bodies{environments: map[string]*environment{}, grants: map[string]*grant{}, roles: map[string]*role{}}
}

// of are those of o's owner.
func (x *bodies) of(o policies.Object) *bodies {
	if x.owner != o.Owner {
		x.owner = o.Owner
		clear(x.environments)
		clear(x.grants)
	}
	return x
}

// like gives what was made of a body like o's, or makes it.
func like[Body, V any](known map[string]*V, o policies.Object, read func(string) (Body, error), from func(Body) *V) (*V, error) {
	if have, ok := known[string(o.Body)]; ok {
		return have, nil
	}
	text := string(o.Body) // the key, which what is read shares
	body, err := read(text)
	if err != nil {
		return nil, unreadable(o, err)
	}
	if len(known) >= maxBodies {
		clear(known)
	}
	made := from(body)
	known[text] = made
	return made, nil
}

// same makes ids those that the table has: one string for all who name it.
func same[K ~string, V any](in table[K, V], ids []K) {
	for i, id := range ids {
		ids[i] = in.same(id)
	}
}
