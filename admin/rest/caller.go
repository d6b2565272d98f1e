package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strings"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

const (
	headerActAs       = "Usher-Act-As"
	headerRevision    = "Usher-Revision"
	headerMinRevision = "Usher-Min-Revision"
	headerRequestID   = "X-Request-ID"
	headerIdempotency = "Idempotency-Key"
)

// caller is who makes a request: a service by its token, and the account that it
// acts as, if any; or an account by itself, by a JWT. What an account may do does not
// depend on which of the two it is.
type caller struct {
	actor store.Actor
	// signedIn is what the JWT proves; nil for a service, whatever it acts as.
	signedIn    *signedIn
	member      policies.AccountID // the account, if it acts as a member with its rights
	dryRun      bool
	idempotency string
	ifMatch     string
	requestHash string
}

// account is the one that the caller is or acts as; empty for the service itself.
func (c *caller) account() policies.AccountID { return c.actor.Account }

// mayEverything tells whether the caller may do all that the owner may.
func (c *caller) mayEverything(owner policies.AccountID) bool {
	return c.actor.Account == "" || c.actor.Account == owner
}

// hash adds the body to what an idempotency key stands for.
func (c *caller) hash(body []byte) {
	sum := sha256.New()
	sum.Write([]byte(c.requestHash))
	sum.Write(body)
	c.requestHash = hex.EncodeToString(sum.Sum(nil))
}

// call is the caller as the store records it.
func (c *caller) call() store.Call {
	return store.Call{Actor: c.actor, Member: c.member, DryRun: c.dryRun, IfMatch: c.ifMatch, IdempotencyKey: c.idempotency, RequestHash: c.requestHash}
}

// authenticate finds out who calls: 401 without good credentials, 403 without the
// operation's scope or for an account that does not exist.
func (a *API) authenticate(ctx context.Context, r *request) (caller, error) {
	c := caller{actor: store.Actor{Address: remoteAddress(r.Request), RequestID: uniqueRequestID(ctx)}}
	var err error
	if r.op.who == whoLink && len(r.Header.Values("Authorization")) == 0 {
		if len(r.Header.Values(headerActAs)) > 0 {
			return c, server.ErrUnauthorized
		}
	} else if token, isJWT := a.jwt(r.Request); isJWT {
		err = a.signIn(ctx, r, token, &c)
	} else {
		err = a.service(ctx, r, &c)
	}
	if err == nil && r.op.writes() {
		err = c.readWriteHeaders(r)
	}
	return c, err
}

// service makes the caller the service whose token the request has.
func (a *API) service(ctx context.Context, r *request, c *caller) error {
	token, err := a.auth.Authenticate(r.Request)
	if err != nil {
		return err
	}
	c.actor.Token = token.ID
	if err := server.Allow(token, r.op.scope); err != nil {
		return err
	}
	c.actor.Account, err = a.actingAs(ctx, r, token)
	return err
}

// actingAs is the account of Usher-Act-As (api.md, Who calls).
func (a *API) actingAs(ctx context.Context, r *request, token authz.Token) (policies.AccountID, error) {
	values := r.Header.Values(headerActAs)
	if len(values) == 0 {
		return "", nil
	}
	if r.op.who == whoAlone {
		return "", NewProblem(problem.ActAs, headerActAs+" cannot be used here.")
	}
	if len(values) > 1 {
		return "", &policies.MalformedError{Where: headerActAs, Reason: "stands twice"}
	}
	if err := server.Allow(token, policies.ScopeActAs); err != nil {
		return "", err
	}
	account := policies.AccountID(values[0])
	unknown := &policies.ForbiddenError{Reason: "The account to act as is not known."}
	if !policies.ValidID(values[0]) {
		return "", unknown
	}
	known, err := a.knows(ctx, account)
	if err != nil {
		return "", err
	}
	if !known {
		return "", unknown
	}
	return account, nil
}

// knows tells whether there is such an account; it may have been made a moment ago.
func (a *API) knows(ctx context.Context, account policies.AccountID) (bool, error) {
	if err := a.fresh(ctx); err != nil {
		return false, err
	}
	if a.engine.State().Known(account) {
		return true, nil
	}
	_, err := a.store.GetAccount(ctx, account)
	if notFound(err) {
		return false, nil
	}
	return err == nil, err
}

// readWriteHeaders reads If-Match and Idempotency-Key.
func (c *caller) readWriteHeaders(r *request) error {
	if values := r.Header.Values("If-Match"); len(values) > 0 {
		if r.op.noMatch {
			return &policies.MalformedError{Where: "If-Match", Reason: "cannot be used here"}
		}
		tag := strings.TrimSpace(values[0])
		if len(values) > 1 || len(tag) > policies.MaxIDLength || !plainText(tag) || strings.Contains(tag, ",") {
			return &policies.MalformedError{Where: "If-Match", Reason: "must be one etag"}
		}
		c.ifMatch = tag
		if tag != "*" && !strings.HasSuffix(tag, `"`) {
			c.ifMatch = `"` + tag + `"`
		}
	}
	if values := r.Header.Values(headerIdempotency); len(values) > 0 {
		key := unquote(strings.TrimSpace(values[0]))
		if r.op.method != http.MethodPost || len(values) > 1 || key == "" || len(key) > policies.MaxIdempotencyKeyLength || !plainText(key) {
			return &policies.MalformedError{Where: headerIdempotency, Reason: "must be one key of 1 to 255 characters, on a POST"}
		}
		c.idempotency = key
	}
	c.requestHash = strings.Join([]string{r.op.method, r.URL.Path, r.URL.RawQuery, string(c.actor.Account), ""}, "\n")
	c.hash(nil)
	return nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// authorize holds the caller against the operation's right (domain.md, Who may
// change what). A stranger learns nothing about the account: 404, as for one that
// does not exist; a member knows it, and gets 403.
func (a *API) authorize(ctx context.Context, r *request) error {
	account := r.caller.account()
	switch r.op.who {
	case whoServices, whoAlone:
		if account != "" {
			return &policies.ForbiddenError{Reason: "Only the platform's services may do this, not an account."}
		}
	case whoMember:
		if account == "" {
			return &policies.ForbiddenError{Reason: "This is about an account itself: name it in Usher-Act-As."}
		}
	case whoOwner:
		if owner := policies.AccountID(r.PathValue("account")); !r.caller.mayEverything(owner) {
			return a.refuse(ctx, account, owner)
		}
	case whoMembers:
		if owner := policies.AccountID(r.PathValue("account")); !r.caller.mayEverything(owner) {
			r.caller.member = account
			return a.acquainted(ctx, account, owner)
		}
	case whoAnyone, whoLink: // the handler decides; anyone may
	}
	return nil
}

// refuse is 403 for those who know owner's account by a collaboration, else 404.
func (a *API) refuse(ctx context.Context, account, owner policies.AccountID) error {
	if err := a.acquainted(ctx, account, owner); err != nil {
		return err
	}
	return &policies.ForbiddenError{Reason: "Only the owner of the account may do this."}
}

// acquainted is a 404 for those who do not know owner's account by a collaboration.
func (a *API) acquainted(ctx context.Context, account, owner policies.AccountID) error {
	if err := a.fresh(ctx); err != nil {
		return err
	}
	found, err := a.engine.Effective(ctx, account, policies.Resource{Type: policies.TypeAccount, ID: string(owner)})
	if err != nil {
		return err
	}
	switch found.Reason { //nolint:exhaustive // every other reason speaks of a collaboration that is there
	case policies.ReasonUnknownSubject, policies.ReasonUnknownResource, policies.ReasonNoCollaboration, policies.ReasonCollaborationRemoved:
		return &policies.NotFoundError{Kind: "account", ID: string(owner)}
	}
	return nil
}

func remoteAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
