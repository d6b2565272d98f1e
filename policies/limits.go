package policies

import "time"

// Every limit on what a caller may send, in one place. Lengths of names are in
// Unicode characters after normalization, lengths of ids and action names in
// bytes (they are ASCII), sizes in bytes.
const (
	// MaxIDLength is the greatest length of an id (domain.md, Words).
	MaxIDLength = 128
	// MaxActionLength is the greatest length of an action name.
	MaxActionLength = 200
	// MaxNameLength is the greatest length of names, display names and
	// descriptions.
	MaxNameLength = 200
	// MaxEmailLength is the greatest length of an email address (RFC 5321,
	// 4.5.3.1.3, less the angle brackets).
	MaxEmailLength = 254
	// MaxEmailLocalLength is the greatest length of what stands before the @.
	MaxEmailLocalLength = 64

	// MaxGroupDepth is how many groups may stand above one another, the lowest
	// included: a root group has depth 1.
	MaxGroupDepth = 128

	// MaxBodyBytes is the greatest body of a request, but for imports and bundles.
	MaxBodyBytes = 1 << 20
	// MaxImportBytes is the greatest body of an import.
	MaxImportBytes = 1 << 30
	// MaxDocumentBytes is the greatest account document.
	MaxDocumentBytes = 64 << 20
	// MaxFieldErrors is the greatest number of invalid fields that one error lists.
	MaxFieldErrors = 1000
	// MaxHeaderBytes is the greatest header of a request.
	MaxHeaderBytes = 64 << 10
	// MaxBatchSize is the greatest number of evaluations in one request.
	MaxBatchSize = 1000
	// MaxLookups is the greatest number of things asked for in one POST
	// /v1/feed/lookup.
	MaxLookups = 1000

	// MaxDecisionUploadBytes is the greatest POST /v1/logs as it travels, and
	// MaxDecisionsBytes what it may unpack to. A stock OPA sends 32 KiB at a time
	// unless configured otherwise.
	MaxDecisionUploadBytes = 8 << 20
	MaxDecisionsBytes      = 64 << 20
	// MaxDecisionBytes is the greatest event of a decision log, and the greatest
	// status of an OPA.
	MaxDecisionBytes = 1 << 20

	// MaxGuardrailFiles is the greatest number of files of guardrails, tests
	// included, and MaxGuardrailsBytes of all of them together. They travel with the
	// policy in force to every sidecar.
	MaxGuardrailFiles  = 100
	MaxGuardrailsBytes = 256 << 10

	// MaxPageLimit and DefaultPageLimit bound a page of a list.
	MaxPageLimit     = 1000
	DefaultPageLimit = 100
	// MaxSearchResults is the greatest number of results on a page of a search, and
	// how many there are where none was asked for.
	MaxSearchResults = 10_000
	// MaxPageTokenLength bounds the token of a page of a search, which says what is
	// searched for.
	MaxPageTokenLength = 2048
	// MaxCursorLength bounds an opaque cursor or page token.
	MaxCursorLength = 1024

	// MaxRequestIDLength bounds X-Request-ID.
	MaxRequestIDLength = 128
	// MaxIdempotencyKeyLength bounds Idempotency-Key.
	MaxIdempotencyKeyLength = 255

	// MaxBundleBytes is the greatest bundle as it travels, compressed.
	MaxBundleBytes = 1 << 30
	// MaxBundleFileBytes is the greatest file in a bundle. A stock OPA refuses
	// greater ones too (bundle.DefaultSizeLimitBytes).
	MaxBundleFileBytes = 1 << 30
	// MaxBundleFiles is the greatest number of files in a bundle.
	MaxBundleFiles = 1000
	// MaxBundleWait is the longest wait of a poll for a bundle that is granted;
	// a longer Prefer: wait is answered when this has passed.
	MaxBundleWait = 5 * time.Minute
	// MaxIfNoneMatch is how many ETags of one If-None-Match are looked at. A stock
	// OPA sends at most nine.
	MaxIfNoneMatch = 64
)

// The years in which a grant may end: what RFC 3339 and PostgreSQL's timestamptz
// both hold, from the beginning of Unix time.
const (
	MinExpiryYear = 1970
	MaxExpiryYear = 9999
)
