package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// signedIn is an account that came by itself.
type signedIn struct {
	identity.Identity

	// known says that usher has the account. One that it has not gets no further than
	// to invitations (spec.strangers).
	known bool
}

// acceptor is the caller as who accepts an invitation. A service that acts as an
// account vouches for its address; a JWT must prove it, and may be of an account that
// is to be made.
func (c *caller) acceptor() store.Acceptor {
	by := store.Acceptor{Account: policies.Account{ID: c.actor.Account}}
	if c.signedIn != nil {
		by.SignedIn, by.Verified = true, c.signedIn.Email
		by.Registers, by.DisplayName = !c.signedIn.known, c.signedIn.DisplayName
	}
	return by
}

// jwt is the request's bearer token if that may be a JWT of an account.
func (a *API) jwt(r *http.Request) (token string, ok bool) {
	if a.identities == nil {
		return "", false
	}
	token, ok = server.Bearer(r.Header)
	return token, ok && !strings.HasPrefix(token, policies.TokenPrefix)
}

// signIn makes the caller the account that the JWT proves.
func (a *API) signIn(ctx context.Context, r *request, token string, c *caller) error {
	proven, err := a.verify(ctx, token)
	if err != nil {
		return err
	}
	if len(r.Header.Values(headerActAs)) > 0 {
		return NewProblem(problem.ActAs, headerActAs+" is for services: an account acts as itself.")
	}
	unknown := &policies.ForbiddenError{Reason: "The account that signed in is not known to usher."}
	if !policies.ValidID(string(proven.Account)) {
		return unknown
	}
	known, err := a.knows(ctx, proven.Account)
	if err != nil {
		return err
	}
	if !known && !r.op.strangers {
		return unknown
	}
	c.actor.Account = proven.Account
	c.signedIn = &signedIn{proven, known}
	return nil
}

// verify is the identity that a JWT proves; all that may be wrong with it is one
// error, the same as without credentials.
func (a *API) verify(ctx context.Context, token string) (identity.Identity, error) {
	proven, err := a.identities.Verify(ctx, token)
	if errors.Is(err, identity.ErrRefused) {
		return proven, server.ErrUnauthorized
	}
	return proven, err
}

// recognize tells whether the request has any credentials that are good.
func (a *API) recognize(r *http.Request) error {
	if token, ok := a.jwt(r); ok {
		_, err := a.verify(r.Context(), token)
		return err
	}
	_, err := a.auth.Authenticate(r)
	return err
}
