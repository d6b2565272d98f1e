package policies

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// NormalizeTime is t as it is kept: UTC, cut to microseconds, which is what
// PostgreSQL's timestamptz holds.
func NormalizeTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// ParseExpiry reads the end of a grant: RFC 3339, of the years [MinExpiryYear]
// to [MaxExpiryYear], normalized by [NormalizeTime]. The error completes
// "expires_at …".
func ParseExpiry(s string) (time.Time, error) {
	var t time.Time
	// UnmarshalText, and not Parse, because Parse takes more than RFC 3339 allows;
	// but both take a comma before the decimals.
	if err := t.UnmarshalText([]byte(s)); err != nil || strings.Contains(s, ",") {
		return time.Time{}, errors.New("must be a time in RFC 3339, such as 2030-01-31T12:00:00Z")
	}
	t = NormalizeTime(t)
	if y := t.Year(); y < MinExpiryYear || y > MaxExpiryYear {
		return time.Time{}, fmt.Errorf("must lie in the years %d to %d", MinExpiryYear, MaxExpiryYear)
	}
	return t, nil
}

// FormatTime writes t as RFC 3339 in UTC with as many decimals as it needs, the
// form of every time that usher gives out.
func FormatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
