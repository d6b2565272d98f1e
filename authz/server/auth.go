package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Auth is what a listener asks of its callers.
type Auth string

// The modes of a listener.
const (
	AuthToken Auth = "token" // a service token with the scope checks; the default on TCP
	AuthNone  Auth = "none"  // nothing: Unix sockets, and loopback if asked for
)

// Valid tells whether a is one of the modes.
func (a Auth) Valid() bool { return a == AuthToken || a == AuthNone }

// Tokens knows the platform's service tokens by the hash of their secret, as
// [policies.HashToken] makes it.
type Tokens interface {
	// Token returns the token with that hash; false: there is none. An
	// [authz.UnavailableError] says that the tokens are not known yet.
	Token(hash string) (authz.Token, bool, error)
}

// StateTokens are the tokens of the state that get returns, nil while there is
// none.
type StateTokens func() *authz.State

// Token implements [Tokens].
func (get StateTokens) Token(hash string) (authz.Token, bool, error) {
	state := get()
	if state == nil {
		return authz.Token{}, false, &authz.UnavailableError{Reason: "no state of the platform has arrived yet"}
	}
	token, ok := state.Token(hash)
	return token, ok, nil
}

// ErrUnauthorized says that the request has no credentials, or wrong ones. It does
// not say which: whoever has none need not know.
var ErrUnauthorized = errors.New("credentials are needed: Authorization: Bearer …, with a token that is good here")

// Authenticator finds out which service token a request carries.
type Authenticator struct {
	tokens Tokens
	clock  func() time.Time
}

// NewAuthenticator makes an authenticator by tokens; clock tells when a token has
// ended.
func NewAuthenticator(tokens Tokens, clock func() time.Time) *Authenticator {
	return &Authenticator{tokens: tokens, clock: clock}
}

// Authenticate returns the token of r. The error is [ErrUnauthorized], or an
// [authz.UnavailableError] while the tokens are not known.
func (a *Authenticator) Authenticate(r *http.Request) (authz.Token, error) {
	secret, ok := Bearer(r.Header)
	if !ok || !policies.LooksLikeToken(secret) {
		return authz.Token{}, ErrUnauthorized
	}
	// What is looked up is the hash of 256 random bits: how long that takes tells
	// nothing of the secret.
	sum := sha256.Sum256([]byte(secret))
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	token, ok, err := a.tokens.Token(string(digits[:]))
	switch {
	case err != nil:
		return authz.Token{}, err
	case !ok, token.ExpiresAt != nil && !a.clock().Before(*token.ExpiresAt):
		return authz.Token{}, ErrUnauthorized
	}
	return token, nil
}

// Allow returns a [policies.ForbiddenError] if token has not the scope.
func Allow(token authz.Token, scope policies.Scope) error {
	if slices.Contains(token.Scopes, scope) {
		return nil
	}
	return &policies.ForbiddenError{Reason: "the token has not the scope " + string(scope)}
}

// Require lets requests with a token of that scope through to next, and answers
// others.
func (a *Authenticator) Require(scope policies.Scope, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := a.Authenticate(r)
		if err == nil {
			err = Allow(token, scope)
		}
		if err != nil {
			problemOf(err).Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Bearer is the credential of RFC 6750, 2.1, whatever it is; its scheme is compared
// without case (RFC 9110, 11.1). False: there is none, or more than one.
func Bearer(h http.Header) (string, bool) {
	const scheme = "bearer "
	values := h["Authorization"]
	if len(values) != 1 || len(values[0]) < len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(values[0][len(scheme):], " "), true
}
