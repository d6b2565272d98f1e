package policies

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// TokenPrefix begins every service token, so that secret scanners find them.
const TokenPrefix = "ush_"

// tokenBytes are the random bytes of a token: 256 bits, so that its hash needs
// no salt and no stretching.
const tokenBytes = 32

// NewTokenSecret makes a service token from 32 bytes of random, which must be
// cryptographically strong (crypto/rand.Reader). It fails only if random does.
func NewTokenSecret(random io.Reader) (string, error) {
	var b [tokenBytes]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("read random bytes for a token: %w", err)
	}
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// HashToken is what is stored of a token and compared with: the hex SHA-256 of
// the whole secret, prefix included.
func HashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// LooksLikeToken tells whether s has the form of a service token. It lets a
// caller tell tokens from JWTs without looking anything up.
func LooksLikeToken(s string) bool {
	rest, ok := strings.CutPrefix(s, TokenPrefix)
	return ok && len(rest) == base64.RawURLEncoding.EncodedLen(tokenBytes)
}
