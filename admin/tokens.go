package admin

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/server"
)

// How often unknown tokens may make the engine catch up with the database, and
// for how long one of them waits.
const (
	catchUpRate  = 20 // a second
	catchUpBurst = 20
	catchUpWait  = 5 * time.Second
)

// tokens are those of the engine's state. One that it does not know may have been
// made a moment ago, by a command on the database: then the engine catches up
// first, which callers without a token cannot make it do often.
type tokens struct {
	store  *store.Store
	engine *authz.Engine
	limit  *rate.Limiter
	uses   *tokenUses
}

var _ server.Tokens = (*tokens)(nil)

func newTokens(s *store.Store, e *authz.Engine) *tokens {
	return &tokens{store: s, engine: e, limit: rate.NewLimiter(catchUpRate, catchUpBurst), uses: newTokenUses()}
}

// Token implements [server.Tokens], and notes the use of a token that is good.
func (t *tokens) Token(hash string) (authz.Token, bool, error) {
	token, ok, err := t.find(hash)
	if now := t.engine.Now(); ok && (token.ExpiresAt == nil || now.Before(*token.ExpiresAt)) {
		t.uses.note(token.ID, now)
	}
	return token, ok, err
}

func (t *tokens) find(hash string) (authz.Token, bool, error) {
	state := t.engine.State()
	if state == nil {
		return authz.Token{}, false, &authz.UnavailableError{Reason: errNoState.Error()}
	}
	token, ok := state.Token(hash)
	if ok || !t.limit.Allow() {
		return token, ok, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), catchUpWait)
	defer cancel()
	head, err := t.store.Head(ctx)
	if err != nil || head.Revision <= state.Revision() || t.engine.WaitFor(ctx, head.Revision) != nil {
		return authz.Token{}, false, nil // without the database, what the engine knows counts
	}
	token, ok = t.engine.State().Token(hash)
	return token, ok, nil
}
