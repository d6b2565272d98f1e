package authz

import (
	"encoding/binary"
	"unsafe"
)

// text is an id in eight bytes: it points at its length, with its bytes behind. A
// string takes sixteen wherever it stands, and a state has seven ids for each grant,
// so that strings would take half as much again as all of it does. It is as immutable
// as a string; the zero value is the empty id.
type text[K ~string] struct{ at *byte }

// string is the id. It shares the text's bytes.
func (t text[K]) string() K {
	if t.at == nil {
		return ""
	}
	size, length := 1, uint64(*t.at)
	if length >= 0x80 { //nolint:mnd // of two bytes and more, as no id has it: see policies.MaxIDLength
		size, length = longText(t.at)
	}
	return K(unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(t.at), size)), length)) //nolint:gosec // newText wrote as many
}

// longText reads a length of two bytes and more, and how many they are.
func longText(at *byte) (size int, length uint64) {
	var head [binary.MaxVarintLen64]byte
	for head[size] = *at; head[size] >= 0x80; head[size] = *(*byte)(unsafe.Add(unsafe.Pointer(at), size)) { //nolint:gosec // as above
		size++
	}
	length, size = binary.Uvarint(head[:])
	return size, length
}

// room is where texts lie one behind the other: alone, each takes what the allocator
// rounds it up to. In no room (nil) they are alone. A piece of room lives as long as any
// text in it, so those that come and go with changes are alone.
type room struct{ free []byte }

const roomPiece = 8 << 10

func newText[K ~string](in *room, id K) text[K] {
	if id == "" {
		return text[K]{}
	}
	var head [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(head[:], uint64(len(id)))
	made := in.take(size + len(id))
	copy(made, head[:size])
	copy(made[size:], id)
	return text[K]{&made[0]}
}

func (r *room) take(size int) []byte {
	if r == nil {
		return make([]byte, size)
	}
	if size > len(r.free) {
		r.free = make([]byte, max(size, roomPiece))
	}
	taken := r.free[:size:size]
	r.free = r.free[size:]
	return taken
}
