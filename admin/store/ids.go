package store

import (
	"encoding/base32"
	"fmt"
	"io"
	"strings"
)

// idBytes are the random bytes of an id that the server makes: 120 bits, so that
// none comes twice, in 24 letters and digits.
const idBytes = 15

// newID makes an id for a kind of object, such as role-q5k….
func (s *Store) newID(kind string) (string, error) {
	var b [idBytes]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		return "", fmt.Errorf("read random bytes for an id: %w", err)
	}
	return kind + "-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])), nil
}
