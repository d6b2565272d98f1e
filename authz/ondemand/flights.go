package ondemand

import "sync"

// flights lets the same question be put together once at a time: the first to ask
// leads, the others wait for what it finds.
type flights struct {
	mu  sync.Mutex
	all map[memoryKey]*flight
}

// flight is one question that is being answered. What was found is read after done
// is closed: fact, which is nil where it is not to be shared (unknown ids), or err.
type flight struct {
	done chan struct{}
	fact *fact
	err  error
}

func newFlights() flights { return flights{all: map[memoryKey]*flight{}} }

// join gives the flight of k, and whether the caller leads it: it must then land
// it.
func (f *flights) join(k memoryKey) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.all[k]; have != nil {
		return have, false
	}
	made := &flight{done: make(chan struct{})}
	f.all[k] = made
	return made, true
}

// land ends a flight that the caller leads.
func (f *flights) land(k memoryKey, found *fact, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	this := f.all[k]
	delete(f.all, k)
	this.fact, this.err = found, err
	close(this.done)
}
