package server

import (
	"bytes"
	"math/big"
	"net/http"

	"github.com/usher-authz/usher/policies"
)

// HeaderMinRevision is the header that demands a revision, as min_revision in the
// context does; the greatest counts.
const HeaderMinRevision = "Usher-Min-Revision"

const revisionReason = "must be a whole number from 0 to 9007199254740991"

// maxNumberText bounds what is computed with: 1e999999999 is a short text.
const maxNumberText = 64

// wholeNumber reads a revision from a JSON number, however it is written: 7, 7.0
// and 70e-1 are equal in JSON, and in Rego.
func wholeNumber(raw []byte) (policies.Revision, bool) {
	if len(raw) < 16 && bytes.IndexFunc(raw, notDigit) < 0 {
		var n policies.Revision
		for _, digit := range raw {
			n = 10*n + policies.Revision(digit-'0')
		}
		return n, true
	}
	if len(raw) > maxNumberText {
		return 0, false
	}
	if e := bytes.IndexAny(raw, "eE"); e >= 0 && len(raw)-e > 5 {
		return 0, false
	}
	n, ok := new(big.Rat).SetString(string(raw))
	if !ok || !n.IsInt() || n.Sign() < 0 || !n.Num().IsUint64() {
		return 0, false
	}
	revision := policies.Revision(n.Num().Uint64())
	return revision, revision <= policies.MaxRevision
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// DemandedBy is the revision that headers demand; 0: none. The error is a
// [policies.MalformedError].
func DemandedBy(h http.Header) (policies.Revision, error) {
	var greatest policies.Revision
	for _, value := range h[HeaderMinRevision] {
		revision, err := policies.ParseRevision(value)
		if err != nil {
			return 0, &policies.MalformedError{Where: HeaderMinRevision, Reason: err.Error()}
		}
		greatest = max(greatest, revision)
	}
	return greatest, nil
}
