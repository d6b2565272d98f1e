package signin

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// maxLogins bounds the sign-ins under way; the oldest goes.
	maxLogins = 1000
	// loginTime is how long one may take.
	loginTime = 10 * time.Minute
)

var (
	errNoLogin = errors.New("there is no such sign-in")
	errNot     = errors.New("the development sign-in does not have this")
)

// storage is what the library asks of us: sign-ins under way, in memory, and the key.
type storage struct {
	o Options

	mu     sync.Mutex
	logins map[string]*login // by id
	people map[string]person // who signed in last, by account
}

var (
	_ op.Storage                        = (*storage)(nil)
	_ op.CanSetUserinfoFromRequest      = (*storage)(nil)
	_ op.CanGetPrivateClaimsFromRequest = (*storage)(nil)
)

func newStorage(o Options) *storage {
	return &storage{o: o, logins: map[string]*login{}, people: map[string]person{}}
}

// CreateAuthRequest begins a sign-in.
func (s *storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if r.CodeChallenge == "" || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE is required: code_challenge with the method S256")
	}
	if !isLoopbackURL(r.RedirectURI) { // which a pattern cannot tell: http://127.0.0.1:80@elsewhere/
		return nil, oidc.ErrInvalidRequestRedirectURI().WithDescription("The redirect must lead to loopback.")
	}
	l := &login{id: rand.Text(), client: r.ClientID, request: *r, at: s.o.Clock()}
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *login
	for id, other := range s.logins {
		if l.at.Sub(other.at) > loginTime {
			delete(s.logins, id)
		} else if oldest == nil || other.at.Before(oldest.at) {
			oldest = other
		}
	}
	if len(s.logins) >= maxLogins {
		delete(s.logins, oldest.id)
	}
	s.logins[l.id] = l
	return l.copy(), nil
}

// find is the sign-in with that id, or errNoLogin.
func (s *storage) find(id string) (*login, error) {
	return s.search(func(l *login) bool { return l.id == id })
}

func (s *storage) search(is func(*login) bool) (*login, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logins {
		if is(l) && s.o.Clock().Sub(l.at) <= loginTime {
			return l.copy(), nil
		}
	}
	return nil, errNoLogin
}

// choose says who signs in.
func (s *storage) choose(id string, who person) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[id]
	if !ok || l.done {
		return errNoLogin
	}
	l.who, l.done = who, true
	if len(s.people) >= maxLogins {
		clear(s.people)
	}
	s.people[string(who.ID)] = who
	return nil
}

// AuthRequestByID is op.AuthStorage's.
func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	return s.find(id)
}

// AuthRequestByCode is op.AuthStorage's.
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	return s.search(func(l *login) bool { return l.code != "" && l.code == code })
}

// SaveAuthCode is op.AuthStorage's.
func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[id]
	if !ok {
		return errNoLogin
	}
	l.code = code
	return nil
}

// DeleteAuthRequest ends a sign-in: its code is good once.
func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, id)
	return nil
}

// CreateAccessToken keeps nothing: access tokens are JWTs.
func (s *storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), s.o.Clock().Add(Lifetime), nil
}

// CreateAccessAndRefreshTokens is not supported: nobody asks for it, since no client
// has the grant.
func (s *storage) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errNot
}

// TokenRequestByRefreshToken knows no token.
func (s *storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, op.ErrInvalidRefreshToken
}

// TerminateSession has nothing to end: there are no sessions.
func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

// RevokeToken cannot: JWTs end by themselves.
func (s *storage) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrUnsupportedGrantType().WithDescription("tokens end by themselves")
}

// GetRefreshTokenInfo knows no token.
func (s *storage) GetRefreshTokenInfo(context.Context, string, string) (userID, tokenID string, err error) {
	return "", "", op.ErrInvalidRefreshToken
}

// SigningKey is op.AuthStorage's.
func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return signer{s.o.Key}, nil }

// SignatureAlgorithms is op.AuthStorage's.
func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet is op.AuthStorage's.
func (s *storage) KeySet(context.Context) ([]op.Key, error) { return []op.Key{published{s.o.Key}}, nil }

// GetClientByClientID knows the one client.
func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != ClientID {
		return nil, errNot
	}
	return client{}, nil
}

// AuthorizeClientIDSecret refuses: the client is public.
func (s *storage) AuthorizeClientIDSecret(context.Context, string, string) error { return errNot }

// SetUserinfoFromScopes is empty, as the library says.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills in an ID token.
func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, _ []string) error {
	if l, ok := request.(*login); ok {
		l.who.fill(info)
	}
	return nil
}

// SetUserinfoFromToken fills in the answer of /userinfo.
func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, _, subject, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	info.Subject = subject
	if who, ok := s.people[subject]; ok {
		who.fill(info)
	}
	return nil
}

// SetIntrospectionFromToken refuses: whoever wants to know verifies the JWT.
func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNot
}

// GetPrivateClaimsFromScopes has none: see GetPrivateClaimsFromRequest.
func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return map[string]any{}, nil
}

// GetPrivateClaimsFromRequest are those that an access token has beside the usual.
func (s *storage) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, _ []string) (map[string]any, error) {
	claims := map[string]any{}
	l, ok := request.(*login)
	if !ok {
		return claims, nil
	}
	if l.who.Email != "" {
		claims["email"], claims["email_verified"] = l.who.Email, !l.who.unverified
	}
	if l.who.DisplayName != "" {
		claims["name"] = l.who.DisplayName
	}
	return claims, nil
}

// GetKeyByIDAndClientID knows none: no client has a key.
func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNot
}

// ValidateJWTProfileScopes refuses that grant.
func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNot
}

// Health is op.Storage's.
func (s *storage) Health(context.Context) error { return nil }
