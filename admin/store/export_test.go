package store

import "time"

// SetLookupTimeout shortens the search for the outcome of a COMMIT.
func (s *Store) SetLookupTimeout(d time.Duration) { s.lookupTimeout = d }
