package authz

import "slices"

// tree is a B+ tree: pairs stand in its leaves. A node is written to by the writer
// that made it, and copied by any other.
type tree[K ~string, V any] struct {
	root   *node[K, V]
	size   int
	writer *writer
}

// writer is told from others by its address, which needs a byte.
type writer struct{ _ byte }

// node is a leaf, or has others below it, each with a key that none of its keys is
// before.
type node[K ~string, V any] struct {
	writer *writer
	pairs  []pair[K, V]
	below  []pair[K, *node[K, V]]
}

// treeOf makes a tree of sorted pairs whose nodes are full.
func treeOf[K ~string, V any](pairs []pair[K, V]) *tree[K, V] {
	made := &tree[K, V]{size: len(pairs), writer: new(writer)}
	var level []pair[K, *node[K, V]]
	for some := range slices.Chunk(pairs, nodeSize) {
		level = append(level, pair[K, *node[K, V]]{some[0].key, &node[K, V]{writer: made.writer, pairs: slices.Clone(some)}})
	}
	for len(level) > 1 {
		var above []pair[K, *node[K, V]]
		for some := range slices.Chunk(level, nodeSize) {
			above = append(above, pair[K, *node[K, V]]{some[0].key, &node[K, V]{writer: made.writer, below: slices.Clone(some)}})
		}
		level = above
	}
	made.root = level[0].value
	return made
}

// toward is the place of the node below in which key is, or would be.
func (n *node[K, V]) toward(key K) int {
	at, found := search(n.below, key)
	if !found && at > 0 {
		at--
	}
	return at
}

// leaf has key, if the tree has it.
func (t *tree[K, V]) leaf(key K) []pair[K, V] {
	n := t.root
	for n.below != nil {
		n = n.below[n.toward(key)].value
	}
	return n.pairs
}

func (n *node[K, V]) scan(from K, yield func(K, V) bool) bool {
	if n.below == nil {
		return scan(n.pairs, from, yield)
	}
	for _, b := range n.below[n.toward(from):] {
		if !b.value.scan(from, yield) {
			return false
		}
	}
	return true
}

// leaves calls yield with the pairs of each leaf, in order.
func (n *node[K, V]) leaves(yield func([]pair[K, V])) {
	if n.below == nil {
		yield(n.pairs)
	}
	for _, b := range n.below {
		b.value.leaves(yield)
	}
}

// by gives n to w to write to.
func (n *node[K, V]) by(w *writer) *node[K, V] {
	if n.writer == w {
		return n
	}
	return &node[K, V]{writer: w, pairs: slices.Clone(n.pairs), below: slices.Clone(n.below)}
}

func (t *tree[K, V]) set(key text[K], value V) (added bool) {
	root, beside, added := t.root.set(t.writer, key, value)
	if beside != nil {
		root = &node[K, V]{writer: t.writer, below: []pair[K, *node[K, V]]{{root.first(), root}, {beside.first(), beside}}}
	}
	t.root = root
	if added {
		t.size++
	}
	return added
}

func (n *node[K, V]) first() text[K] {
	if n.below != nil {
		return n.below[0].key
	}
	return n.pairs[0].key
}

// set gives the node after it, and the one beside it if it had to be split.
func (n *node[K, V]) set(w *writer, key text[K], value V) (after, beside *node[K, V], added bool) {
	n = n.by(w)
	if n.below == nil {
		at, found := search(n.pairs, key.string())
		if found {
			n.pairs[at].value = value
			return n, nil, false
		}
		var rest []pair[K, V]
		if n.pairs, rest = insert(n.pairs, at, pair[K, V]{key, value}); rest != nil {
			beside = &node[K, V]{writer: w, pairs: rest}
		}
		return n, beside, true
	}
	at := n.toward(key.string())
	child, split, added := n.below[at].value.set(w, key, value)
	n.below[at].value = child
	if key.string() < n.below[at].key.string() {
		n.below[at].key = key
	}
	if split == nil {
		return n, nil, added
	}
	var rest []pair[K, *node[K, V]]
	if n.below, rest = insert(n.below, at+1, pair[K, *node[K, V]]{split.first(), split}); rest != nil {
		beside = &node[K, V]{writer: w, below: rest}
	}
	return n, beside, added
}

// insert puts an item at its place, and gives the rest of them that do not fit: half,
// or only the last where keys come in order.
func insert[T any](list []T, at int, item T) (kept, rest []T) {
	if len(list) == cap(list) {
		list = append(make([]T, 0, min(2*len(list), nodeSize)+1), list...) //nolint:mnd // room doubles
	}
	list = slices.Insert(list, at, item)
	if len(list) <= nodeSize {
		return list, nil
	}
	cut := len(list) / 2 //nolint:mnd // half
	if at == len(list)-1 {
		cut = at
	}
	rest = slices.Clone(list[cut:])
	clear(list[cut:])
	return list[:cut], rest
}

func (t *tree[K, V]) remove(key K) {
	root, removed := t.root.remove(t.writer, key)
	if !removed {
		return
	}
	for len(root.below) == 1 {
		root = root.below[0].value
	}
	t.root = root
	t.size--
}

func (n *node[K, V]) remove(w *writer, key K) (after *node[K, V], removed bool) {
	if n.below == nil {
		at, found := search(n.pairs, key)
		if !found {
			return n, false
		}
		n = n.by(w)
		n.pairs = slices.Delete(n.pairs, at, at+1)
		return n, true
	}
	at := n.toward(key)
	child, removed := n.below[at].value.remove(w, key)
	if !removed {
		return n, false
	}
	n = n.by(w)
	n.below[at].value = child
	n.join(w, at)
	return n, true
}

// join puts the child at a place together with one beside it, if both are small; one
// that is empty goes.
func (n *node[K, V]) join(w *writer, at int) {
	const small = nodeSize / 4
	switch items := n.below[at].value.items(); {
	case items == 0:
		n.below = slices.Delete(n.below, at, at+1)
		return
	case items > small, len(n.below) == 1:
		return
	}
	if at == len(n.below)-1 {
		at--
	}
	left, right := n.below[at].value, n.below[at+1].value
	if left.items()+right.items() > nodeSize/2 { //nolint:mnd // half: so that it need not be split at once
		return
	}
	left = left.by(w)
	left.pairs = append(left.pairs, right.pairs...)
	left.below = append(left.below, right.below...)
	n.below[at].value = left
	n.below = slices.Delete(n.below, at+1, at+2)
}

func (n *node[K, V]) items() int { return len(n.pairs) + len(n.below) }
