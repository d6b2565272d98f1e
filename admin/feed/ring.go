package feed

import (
	"errors"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// place is a place in the history of the platform: right after revision.
type place struct {
	revision policies.Revision
	hash     policies.Hash
}

// entry is one change, encoded once for all connections. A line is nil if it would
// be too long for a frame.
type entry struct {
	before, after  place
	change, notice []byte
	sealed         bool // each line has a seal of its own after it

	zippedChange, zippedNotice zipped
}

// zipped is a line compressed, once it was asked for.
type zipped struct {
	once  sync.Once
	frame []byte
}

func (z *zipped) of(line []byte, zip *zstd.Encoder) []byte {
	z.once.Do(func() { z.frame = zip.EncodeAll(line, nil) })
	return z.frame
}

func (e *entry) line(mode wire.Mode) []byte {
	if mode == wire.ModeNotices {
		return e.notice
	}
	return e.change
}

// zipped is the line as zip compresses it, the same for all who ask.
func (e *entry) zipped(mode wire.Mode, zip *zstd.Encoder) []byte {
	if mode == wire.ModeNotices {
		return e.zippedNotice.of(e.notice, zip)
	}
	return e.zippedChange.of(e.change, zip)
}

// size is what e may take, each line as it is and compressed.
func (e *entry) size() int { return 2 * (len(e.change) + len(e.notice)) }

// sealWith gives every line that it is called with a seal of its own.
type sealWith struct {
	signer   *signing.Signer
	platform string
}

// sealed appends a seal to the line, which leads to at and ends in a line feed; nil
// stays nil.
func (s sealWith) sealed(data []byte, at place) ([]byte, error) {
	if s.signer == nil || data == nil {
		return data, nil
	}
	var sealer wire.Sealer
	sealer.Line(data[:len(data)-1])
	return s.end(data, &sealer, at)
}

// end appends the seal of what sealer has gathered, which leads to at, to data.
func (s sealWith) end(data []byte, sealer *wire.Sealer, at place) ([]byte, error) {
	seal, err := sealer.Seal(s.signer, s.platform, at.revision, at.hash)
	if err != nil {
		return nil, err
	}
	if data, err = wire.AppendFrame(data, seal); err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// newEntry encodes c, which comes right after before, for readers in these modes,
// each line under the seal that with gives.
func newEntry(before place, c policies.Change, with sealWith, modes ...wire.Mode) (*entry, error) {
	e := &entry{before: before, after: place{c.Revision, c.Hash}, sealed: with.signer != nil}
	for _, mode := range modes {
		var err error
		switch mode {
		case wire.ModeResident:
			if e.change, err = line(&wire.Change{Change: c}); err == nil {
				e.change, err = with.sealed(e.change, e.after)
			}
		case wire.ModeNotices:
			if e.notice, err = noticeLine(c); err == nil {
				e.notice, err = with.sealed(e.notice, e.after)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

func noticeLine(c policies.Change) ([]byte, error) {
	notice, err := wire.NewNotice(c)
	if err != nil {
		return nil, err
	}
	return line(notice)
}

// line is f's line with its line feed, or nil if it is too long.
func line(f wire.Frame) ([]byte, error) {
	data, err := wire.AppendFrame(nil, f)
	var long *wire.TooLongError
	if errors.As(err, &long) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// verdict is how a place lies to the ring.
type verdict int

const (
	within   verdict = iota // changes follow from it
	present                 // it is the newest
	ahead                   // it is newer than the newest
	behind                  // it is older than the oldest: the log may know it
	diverged                // it is not in this history
)

// ring keeps the last changes, bounded by number and bytes; the oldest make room.
// Any number of goroutines may read while one appends.
type ring struct {
	maxEntries, maxBytes int

	mu      sync.Mutex
	begun   bool
	newest  place
	entries []*entry // contiguous, oldest first
	bytes   int
	changed chan struct{} // closed, and replaced, when newest changes
}

func newRing(maxEntries, maxBytes int) *ring {
	return &ring{maxEntries: maxEntries, maxBytes: maxBytes, changed: make(chan struct{})}
}

// tip is the newest place; false: the ring has not begun.
func (r *ring) tip() (place, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest, r.begun
}

// restart empties the ring and lets it begin at p.
func (r *ring) restart(p place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries, r.bytes, r.newest, r.begun = nil, 0, p, true
	r.signal()
}

// add appends e, which must follow from the tip.
func (r *ring) add(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	r.bytes += e.size()
	drop := 0
	for len(r.entries)-drop > r.maxEntries || (r.bytes > r.maxBytes && len(r.entries)-drop > 1) {
		r.bytes -= r.entries[drop].size()
		r.entries[drop] = nil
		drop++
	}
	r.entries = r.entries[drop:]
	r.newest = e.after
	r.signal()
}

func (r *ring) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// next is what follows from p, at most about limit bytes of lines in mode, how p
// lies, and a channel that is closed when that may have changed.
func (r *ring) next(p place, mode wire.Mode, limit int) ([]*entry, verdict, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.search(p.revision)
	if i == len(r.entries) {
		switch {
		case p.revision > r.newest.revision || !r.begun:
			return nil, ahead, r.changed
		case p.revision < r.newest.revision: // the ring is empty
			return nil, behind, r.changed
		case p != r.newest:
			return nil, diverged, r.changed
		}
		return nil, present, r.changed
	}
	if r.entries[i].before != p {
		if i == 0 {
			return nil, behind, r.changed
		}
		return nil, diverged, r.changed
	}
	end, size := i, 0
	for end < len(r.entries) && size < limit {
		size += len(r.entries[end].line(mode))
		end++
	}
	return slices.Clone(r.entries[i:end]), within, r.changed
}

// search is the index of the first entry after revision.
func (r *ring) search(revision policies.Revision) int {
	i, _ := slices.BinarySearchFunc(r.entries, revision, func(e *entry, revision policies.Revision) int {
		if e.after.revision > revision {
			return 1
		}
		return -1
	})
	return i
}

// before is the place right before the first entry after revision, if the ring has
// an entry at or before revision, or begins right there; else the oldest place that
// it has, and false.
func (r *ring) before(revision policies.Revision) (place, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.search(revision); i < len(r.entries) {
		p := r.entries[i].before
		return p, p.revision <= revision
	}
	return r.newest, r.newest.revision <= revision
}
