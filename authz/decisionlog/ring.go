package decisionlog

import (
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
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
}

// set fills in r, and keeps its buffer.
func (r *record) set(at time.Time, took time.Duration, q *authz.Question, d *authz.Decision) {
	buffer := r.bytes[:0]
	r.ends, r.ids = [4]int{}, [3]string{}
	if asked := q.Request; asked != nil {
		for i, part := range [4][]byte{asked.Context, asked.SubjectProperties, asked.ActionProperties, asked.ResourceProperties} {
			buffer = append(buffer, part...)
			r.ends[i] = len(buffer)
		}
		r.ids = [3]string{asked.ID, asked.DecisionID, asked.RemoteAddr}
	}
	r.at, r.took, r.question, r.decision, r.bytes = at, took, *q, *d, buffer
	r.question.Request = nil // it is the caller's
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
	wake  chan struct{} // has something when there may be records
}

func newRing(size int) *ring {
	return &ring{slots: make([]record, size), wake: make(chan struct{}, 1)}
}

// push puts a decision in; false: there is no room.
func (r *ring) push(at time.Time, took time.Duration, q *authz.Question, d *authz.Decision) bool {
	r.mu.Lock()
	if r.count == len(r.slots) {
		r.mu.Unlock()
		return false
	}
	r.slots[(r.first+r.count)%len(r.slots)].set(at, took, q, d)
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
// places, so that none is made anew.
func (r *ring) take(into []record) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(r.count, len(into))
	for i := range n {
		slot := &r.slots[(r.first+i)%len(r.slots)]
		into[i], *slot = *slot, record{bytes: into[i].bytes[:0]}
	}
	r.first = (r.first + n) % len(r.slots)
	r.count -= n
	return n
}
