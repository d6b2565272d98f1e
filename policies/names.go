package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ValidID tells whether s can be an id: 1 to [MaxIDLength] of
// A-Z a-z 0-9 . _ : @ -, beginning with a letter or a digit (domain.md, Words).
func ValidID[T ~string](s T) bool {
	if len(s) == 0 || len(s) > MaxIDLength || !isAlphanumeric(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != '.' && c != '_' && c != ':' && c != '@' && c != '-' {
			return false
		}
	}
	return true
}

// ValidActionName tells whether s can name an action: dotted words of
// A-Z a-z 0-9 _ -, together up to [MaxActionLength] characters.
func ValidActionName[T ~string](s T) bool {
	if len(s) == 0 || len(s) > MaxActionLength {
		return false
	}
	word := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isAlphanumeric(c), c == '_', c == '-':
			word++
		case c == '.' && word > 0:
			word = 0
		default:
			return false
		}
	}
	return word > 0
}

// ValidColor tells whether s is #rrggbb in hex digits of either case.
func ValidColor(s string) bool {
	if len(s) != 7 || s[0] != '#' {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// NormalizeName is s as it is kept: in Unicode's composed form (NFC), without
// white space around it. It does not say whether s is valid; see [CheckName].
func NormalizeName(s string) string {
	return strings.TrimFunc(norm.NFC.String(s), unicode.IsSpace)
}

// NameKey is what two names have in common if they differ only in case or in
// the way their characters are composed: names that must be unique are compared
// by it. It is Unicode's canonical caseless matching, composed (Unicode 3.13,
// D145), of the normalized name.
func NameKey(s string) string {
	s = NormalizeName(s)
	if isASCII(s) {
		return strings.ToLower(s)
	}
	// A Caser has state, so each call has its own. x/text folds the two cases of a
	// Cherokee letter into each other; lower case makes them one.
	fold := cases.Fold()
	return norm.NFC.String(strings.ToLower(fold.String(norm.NFD.String(s))))
}

// EmailKey is what two spellings of one email address have in common; addresses
// are compared by it. Equal to [NameKey]: the standards allow a mail server to
// tell the case of the local part, but none worth writing to does.
func EmailKey(s string) string { return NameKey(s) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// CheckName says what is wrong with s as a name, or "" if nothing is. Pass s
// before normalization: a control character at an end is refused, not trimmed.
// With allowEmpty it is a display name or a description, which may be empty.
func CheckName(s string, allowEmpty bool) string {
	if reason := checkCharacters(s); reason != "" {
		return reason
	}
	s = NormalizeName(s)
	if s == "" {
		if allowEmpty {
			return ""
		}
		return "must not be empty"
	}
	if n := utf8.RuneCountInString(s); n > MaxNameLength {
		return fmt.Sprintf("must have at most %d characters, not %d", MaxNameLength, n)
	}
	if strings.IndexFunc(s, isVisible) < 0 {
		return "must have a visible character"
	}
	return ""
}

func checkCharacters(s string) string {
	if !utf8.ValidString(s) {
		return "must be valid UTF-8"
	}
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Cc, r), r == '\u2028', r == '\u2029':
			return fmt.Sprintf("must not have control characters (U+%04X)", r)
		case unicode.Is(unicode.Bidi_Control, r):
			return fmt.Sprintf("must not have characters that change the direction of text (U+%04X)", r)
		}
	}
	return ""
}

func isVisible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// CheckEmail says what is wrong with s as an email address, or "" if nothing is:
// one @, an unquoted local part, and a domain of dot-separated labels, both in
// any script (RFC 6531).
func CheckEmail(s string) string {
	if reason := checkCharacters(s); reason != "" {
		return reason
	}
	s = NormalizeName(s)
	if s == "" {
		return "must not be empty"
	}
	if len(s) > MaxEmailLength {
		return fmt.Sprintf("must have at most %d bytes, not %d", MaxEmailLength, len(s))
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || !validLocalPart(local) || !validDomain(domain) {
		return "must be an email address, such as mia@example.com"
	}
	return ""
}

func validLocalPart(s string) bool {
	if s == "" || len(s) > MaxEmailLocalLength || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`()<>[]:;@\,"`, r)
	})
}

func validDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r)
		}) {
			return false
		}
	}
	return true
}

// sortedSet is a sorted copy of s without repetitions, never nil.
func sortedSet[T cmp.Ordered](s []T) []T {
	c := append(make([]T, 0, len(s)), s...)
	slices.Sort(c)
	return slices.Compact(c)
}
