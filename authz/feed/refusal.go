package feed

import "errors"

// RefusalKind is why a client refused what a server sent.
type RefusalKind string

// The kinds of refusal, each counted on its own.
const (
	RefusedMalformed  RefusalKind = "malformed"    // not a frame, or out of place
	RefusedOversized  RefusalKind = "oversized"    // a line beyond its limit
	RefusedTruncated  RefusalKind = "truncated"    // ended within a line or a snapshot, or objects are missing
	RefusedAltered    RefusalKind = "altered"      // a hash or digest that does not follow
	RefusedOutOfOrder RefusalKind = "out_of_order" // a revision was left out or moved
	RefusedWithheld   RefusalKind = "withheld"     // heartbeats name a revision that does not come
	RefusedRollback   RefusalKind = "rollback"     // a revision or epoch behind the state's
	RefusedPlatform   RefusalKind = "platform"     // another platform's
	RefusedUnsigned   RefusalKind = "unsigned"     // without a signature by a key that is known here
	RefusedForged     RefusalKind = "forged"       // with a wrong signature
	RefusedReplayed   RefusalKind = "replayed"     // signed, but for another connection, or held back on the way
	RefusedUnusable   RefusalKind = "unusable"     // right on the wire, but the state or the sink does not take it
)

// RefusalKinds lists every kind.
var RefusalKinds = []RefusalKind{
	RefusedMalformed, RefusedOversized, RefusedTruncated, RefusedAltered,
	RefusedOutOfOrder, RefusedWithheld, RefusedRollback, RefusedPlatform, RefusedUnsigned, RefusedForged, RefusedReplayed, RefusedUnusable,
}

// RefusedError is something that came over the feed and was refused; the state is
// what it was before. Find it with errors.As.
type RefusedError struct {
	Kind RefusalKind
	Err  error
}

func (e *RefusedError) Error() string { return "refused as " + string(e.Kind) + ": " + e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(kind RefusalKind, err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return err
	}
	return &RefusedError{Kind: kind, Err: err}
}

var (
	errSilent = errors.New("no heartbeat came in time")
	errEnded  = errors.New("the server ended the stream")
)
