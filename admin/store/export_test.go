package store

import "time"

// SetLookupTimeout shortens the search for the outcome of a COMMIT.
func (s *Store) SetLookupTimeout(d time.Duration) { s.lookupTimeout = d }

// Translate is what a caller gets for an error of the driver.
func Translate(err error) error { return translate(err) }
