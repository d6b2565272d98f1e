package decisionlog

import (
	"strings"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
)

// What callers send does not decide how much memory the log takes, nor whether the
// collector takes the events of others beside theirs: one that is too large, or nested
// too deep, would have a whole chunk refused.
const (
	// ringBytes bounds the callers' JSON that waits in the ring.
	ringBytes = 32 << 20
	// keptBytes is how large a buffer is kept for the next record.
	keptBytes = 1 << 10
	// partsBytes is the most of the callers' JSON that one event has: context and
	// properties beyond it are left out, and named in erased.
	partsBytes = 16 << 10
	// textBytes is the most of an id, a name or an address: usher has none as long.
	textBytes = 256
)

// record is a decision on its way. The strings and slices of question and decision
// never change; what the request has of the caller's bytes is copied.
type record struct {
	at       time.Time
	took     time.Duration
	question authz.Question
	decision authz.Decision
	bytes    []byte    // the JSON of the request's parts, one after the other
	ends     [4]int    // where each ends in bytes
	ids      [3]string // of the request, of the decision, the remote address
	cut      bool      // the parts were too large
}

// set fills in r, and keeps its buffer.
func (r *record) set(at time.Time, took time.Duration, q *authz.Question, d *authz.Decision) {
	buffer := r.bytes[:0]
	r.ends, r.ids, r.cut = [4]int{}, [3]string{}, false
	if asked := q.Request; asked != nil {
		parts := [4][]byte{asked.Context, asked.SubjectProperties, asked.ActionProperties, asked.ResourceProperties}
		if r.cut = sizeOf(parts) > partsBytes; !r.cut {
			for i, part := range parts {
				buffer = append(buffer, part...)
				r.ends[i] = len(buffer)
			}
		}
		r.ids = [3]string{shortened(asked.ID), asked.DecisionID, asked.RemoteAddr}
	}
	r.at, r.took, r.question, r.decision, r.bytes = at, took, *q, *d, buffer
	r.question.Request = nil // it is the caller's
	for _, text := range []*string{
		&r.question.SubjectType, &r.question.Subject, &r.question.Action, &r.question.ResourceType, &r.question.ResourceID,
	} {
		*text = shortened(*text)
	}
}

func sizeOf(parts [4][]byte) (n int) {
	for _, part := range parts {
		n += len(part)
	}
	return n
}

// shortened is s, or its beginning where that is all that is kept.
func shortened(s string) string {
	if len(s) <= textBytes {
		return s
	}
	return strings.ToValidUTF8(s[:textBytes], "") + "…"
}

// part is one of the request's parts, nil if it has none.
func (r *record) part(i int) []byte {
	begin := 0
	if i > 0 {
		begin = r.ends[i-1]
	}
	return r.bytes[begin:r.ends[i]]
}

// ring holds decisions until they are taken. It does not grow.
type ring struct {
	mu    sync.Mutex
	slots []record
	first int
	count int
	bytes int           // of the callers' JSON
	wake  chan struct{} // has something when there may be records
}

func newRing(size int) *ring {
	return &ring{slots: make([]record, size), wake: make(chan struct{}, 1)}
}

// push puts a decision in; false: there is no room.
func (r *ring) push(at time.Time, took time.Duration, q *authz.Question, d *authz.Decision) bool {
	r.mu.Lock()
	if r.count == len(r.slots) || r.bytes > ringBytes {
		r.mu.Unlock()
		return false
	}
	slot := &r.slots[(r.first+r.count)%len(r.slots)]
	slot.set(at, took, q, d)
	r.bytes += len(slot.bytes)
	r.count++
	half := r.count == len(r.slots)/2
	r.mu.Unlock()
	// Whoever takes looks by itself now and then: to be woken for each would cost
	// the check more than the copy.
	if half {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take moves the oldest records to into, and gives their number. Buffers change
// places, so that none is made anew, but for those that a large request made.
func (r *ring) take(into []record) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(r.count, len(into))
	for i := range n {
		slot := &r.slots[(r.first+i)%len(r.slots)]
		r.bytes -= len(slot.bytes)
		spare := into[i].bytes[:0]
		if cap(spare) > keptBytes {
			spare = nil
		}
		into[i], *slot = *slot, record{bytes: spare}
	}
	r.first = (r.first + n) % len(r.slots)
	r.count -= n
	return n
}
