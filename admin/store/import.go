package store

import (
	"context"
	"errors"
	"iter"

	"github.com/usher-authz/usher/policies"
)

var notYet = errors.New("not built yet")

// ImportError is why a document did not go in.
type ImportError struct {
	Line    int
	Account policies.AccountID // "" if it could not be read
	Errors  []policies.FieldError
}

// ImportReport is the outcome of an import. Revision is the last document's, the
// present one if none changed anything.
type ImportReport struct {
	Imported int // documents
	Grants   int // in them; one role on one resource for one member each
	Errors   []ImportError
	Revision policies.Revision
}

// Import puts documents in, each wholly or not at all. progress, if not nil, is
// called with the number of documents done. A bad document does not hinder others;
// the error is of the whole, such as an [UnavailableError]: documents before may be in.
func (s *Store) Import(ctx context.Context, call Call, documents iter.Seq[policies.DocumentLine], progress func(done int)) (ImportReport, error) {
	return ImportReport{}, notYet
}

// Export is the document of an account.
func (s *Store) Export(ctx context.Context, account policies.AccountID) (Item[policies.Document], error) {
	return Item[policies.Document]{}, notYet
}
