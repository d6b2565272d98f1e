package authz

import (
	"iter"

	"github.com/tidwall/btree"
)

// table is an ordered map that does not change once it is published. A fork
// shares all with its origin and copies the nodes on the path to what is set or
// deleted, so that a change costs the height of the tree. The zero value is
// empty. It is the only place that knows how the maps of the state are made.
type table[K ~string, V any] struct{ tree *btree.Map[K, V] }

func (t table[K, V]) get(key K) (V, bool) {
	if t.tree == nil {
		var none V
		return none, false
	}
	return t.tree.Get(key)
}

func (t table[K, V]) len() int {
	if t.tree == nil {
		return 0
	}
	return t.tree.Len()
}

// all iterates in the order of the keys.
func (t table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.tree != nil {
			t.tree.Scan(yield)
		}
	}
}

// from iterates in the order of the keys, beginning with key or the next one.
func (t table[K, V]) from(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.tree != nil {
			t.tree.Ascend(key, yield)
		}
	}
}

// fork gives a table to set and delete in, while others read t.
func (t table[K, V]) fork() table[K, V] {
	if t.tree == nil {
		return t
	}
	// Copy writes to the map that it is called on; readers have the original.
	shallow := *t.tree
	return table[K, V]{tree: shallow.Copy()}
}

// set must be called on forks and new tables only.
func (t *table[K, V]) set(key K, value V) {
	if t.tree == nil {
		t.tree = new(btree.Map[K, V])
	}
	t.tree.Set(key, value)
}

// remove must be called on forks and new tables only.
func (t *table[K, V]) remove(key K) {
	if t.tree == nil {
		return
	}
	t.tree.Delete(key)
	if t.tree.Len() == 0 {
		t.tree = nil
	}
}
