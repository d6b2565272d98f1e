package authz

import (
	"iter"
	"slices"
)

// table is an ordered map that does not change once it is published. A fork
// shares all with its origin and copies what is on the path to what is set or
// removed, so that a change costs the height of the tree. The zero value is
// empty. It is the only place that knows how the maps of the state are made.
//
// There are hundreds of thousands of tables with a handful of keys, and a few with
// hundreds of thousands: a table with few keys is one sorted slice, and a larger one
// a tree of them. (The B-trees of a library, tidwall's, took three words and two
// objects more for each small table, and left half of each node empty where keys
// came in order.)
type table[K ~string, V any] struct {
	few  []pair[K, V] // sorted; while there is no tree
	tree *tree[K, V]
}

type pair[K ~string, V any] struct {
	key   text[K]
	value V
}

const (
	// fewPairs is how many stand in one slice: copying it must not cost more than a
	// tree does.
	fewPairs = 32
	nodeSize = 64 // pairs in a node, at most
)

// search finds the place of key, or where it would stand.
func search[K ~string, V any](pairs []pair[K, V], key K) (at int, found bool) {
	low, high := 0, len(pairs)
	for low < high {
		if middle := (low + high) / 2; pairs[middle].key.string() < key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(pairs) && pairs[low].key.string() == key
}

func (t table[K, V]) find(key K) (found pair[K, V], ok bool) {
	pairs := t.few
	if t.tree != nil {
		pairs = t.tree.leaf(key)
	}
	at, ok := search(pairs, key)
	if ok {
		found = pairs[at]
	}
	return found, ok
}

func (t table[K, V]) get(key K) (V, bool) {
	found, ok := t.find(key)
	return found.value, ok
}

// same is key as the table has it, so that who keeps it keeps no copy; key itself if
// it is not there.
func (t table[K, V]) same(key K) K {
	if found, ok := t.find(key); ok {
		return found.key.string()
	}
	return key
}

// text is same as a text, for who keeps that; a new one if the table does not have it.
func (t table[K, V]) text(key K) text[K] {
	if found, ok := t.find(key); ok {
		return found.key
	}
	return newText(nil, key)
}

func (t table[K, V]) len() int {
	if t.tree != nil {
		return t.tree.size
	}
	return len(t.few)
}

// all iterates in the order of the keys.
func (t table[K, V]) all() iter.Seq2[K, V] { return t.from("") }

// from iterates in the order of the keys, beginning with key or the next one.
func (t table[K, V]) from(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.tree != nil {
			t.tree.root.scan(key, yield)
		} else {
			scan(t.few, key, yield)
		}
	}
}

func scan[K ~string, V any](pairs []pair[K, V], from K, yield func(K, V) bool) bool {
	at, _ := search(pairs, from)
	for _, p := range pairs[at:] {
		if !yield(p.key.string(), p.value) {
			return false
		}
	}
	return true
}

// fork gives a table to set and remove in, while others read t.
func (t table[K, V]) fork() table[K, V] {
	if t.tree != nil {
		return table[K, V]{tree: &tree[K, V]{root: t.tree.root, size: t.tree.size, writer: new(writer)}}
	}
	// Without room behind it, whatever is set makes a slice of its own.
	return table[K, V]{few: slices.Clip(t.few)}
}

// is tells whether two tables are one: a fork and its origin, while nothing was set or
// removed. Two that were filled alike are not.
func (t table[K, V]) is(other table[K, V]) bool {
	switch {
	case t.len() != other.len():
		return false
	case t.len() == 0:
		return true
	case t.tree != nil && other.tree != nil:
		return t.tree.root == other.tree.root
	default:
		return t.tree == nil && other.tree == nil && &t.few[0] == &other.few[0]
	}
}

// set must be called on forks and new tables only. It tells whether the key is new.
func (t *table[K, V]) set(key text[K], value V) (added bool) {
	if t.tree != nil {
		return t.tree.set(key, value)
	}
	at, found := search(t.few, key.string())
	switch {
	case found:
		t.few = slices.Clone(t.few)
		t.few[at].value = value
	case at == len(t.few), len(t.few) < cap(t.few):
		t.few = slices.Insert(t.few, at, pair[K, V]{key, value}) // not into what others read: see fork
	default:
		t.few = slices.Concat(t.few[:at], []pair[K, V]{{key, value}}, t.few[at:])
	}
	if len(t.few) > fewPairs {
		t.tree = treeOf(t.few)
		t.few = nil
	}
	return !found
}

// remove must be called on forks and new tables only.
func (t *table[K, V]) remove(key K) {
	if t.tree == nil {
		if at, found := search(t.few, key); found {
			t.few = slices.Concat(t.few[:at], t.few[at+1:])
		}
		return
	}
	t.tree.remove(key)
	if t.tree.size > fewPairs/2 { //nolint:mnd // half: not there and back with each change
		return
	}
	*t = table[K, V]{few: t.pairs()}
}

// pairs are all of t, in a slice of their own without room to grow.
func (t table[K, V]) pairs() []pair[K, V] {
	all := make([]pair[K, V], 0, t.len())
	t.pieces(func(some []pair[K, V]) { all = append(all, some...) })
	return all
}

// pieces calls yield with the pairs of t, some at a time, in order.
func (t table[K, V]) pieces(yield func([]pair[K, V])) {
	if t.tree != nil {
		t.tree.root.leaves(yield)
	} else {
		yield(t.few)
	}
}

// tableOf makes a table of sorted pairs, which it keeps.
func tableOf[K ~string, V any](pairs []pair[K, V]) table[K, V] {
	switch {
	case len(pairs) == 0:
		return table[K, V]{}
	case len(pairs) <= fewPairs:
		return table[K, V]{few: pairs}
	}
	return table[K, V]{tree: treeOf(pairs)}
}

// pack makes the table again without room to grow, and gives an empty one that has the
// room. It must be called on new tables only.
func (t *table[K, V]) pack() table[K, V] {
	if t.tree == nil && len(t.few) == cap(t.few) {
		return table[K, V]{} // it has none
	}
	room := table[K, V]{few: t.few[:0]}
	*t = tableOf(t.pairs())
	return room
}
