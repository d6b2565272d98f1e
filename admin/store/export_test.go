package store

import (
	"time"

	"github.com/usher-authz/usher/policies"
)

// SetLookupTimeout shortens the search for the outcome of a COMMIT.
func (s *Store) SetLookupTimeout(d time.Duration) { s.lookupTimeout = d }

// Translate is what a caller gets for an error of the driver.
func Translate(err error) error { return translate(err) }

// AuditPart and AuditItem are what [AuditHash] is of.
type (
	AuditPart = auditPart
	AuditItem = auditItem
)

// AuditHash is the audit hash of a revision.
func AuditHash(p AuditPart) (policies.Hash, error) { return p.hash() }
