package signin

import (
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// person is who signs in.
type person struct {
	policies.Account

	unverified bool // the address
}

func (p person) fill(info *oidc.UserInfo) {
	info.Subject = string(p.ID)
	info.Name = p.DisplayName
	if p.Email != "" {
		info.Email, info.EmailVerified = p.Email, oidc.Bool(!p.unverified)
	}
}

// login is one sign-in.
type login struct {
	id      string
	client  string
	request oidc.AuthRequest
	at      time.Time // when it began
	who     person
	done    bool // who is chosen
	code    string
}

var (
	_ op.AuthRequest  = (*login)(nil)
	_ op.TokenRequest = (*login)(nil)
)

func (l *login) copy() *login {
	other := *l
	return &other
}

// The methods of op.AuthRequest.

func (l *login) GetID() string                      { return l.id }
func (*login) GetACR() string                       { return "" }
func (*login) GetAMR() []string                     { return nil }
func (l *login) GetAudience() []string              { return []string{Audience, l.client} }
func (l *login) GetAuthTime() time.Time             { return l.at }
func (l *login) GetClientID() string                { return l.client }
func (l *login) GetNonce() string                   { return l.request.Nonce }
func (l *login) GetRedirectURI() string             { return l.request.RedirectURI }
func (l *login) GetResponseType() oidc.ResponseType { return l.request.ResponseType }
func (l *login) GetResponseMode() oidc.ResponseMode { return l.request.ResponseMode }
func (l *login) GetScopes() []string                { return l.request.Scopes }
func (l *login) GetState() string                   { return l.request.State }
func (l *login) GetSubject() string                 { return string(l.who.ID) }
func (l *login) Done() bool                         { return l.done }
func (l *login) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: l.request.CodeChallenge, Method: l.request.CodeChallengeMethod}
}

// client is the one client.
type client struct{}

var _ op.HasRedirectGlobs = client{}

// The methods of op.Client and op.HasRedirectGlobs.

func (client) GetID() string                                            { return ClientID }
func (client) RedirectURIs() []string                                   { return nil }
func (client) PostLogoutRedirectURIs() []string                         { return nil }
func (client) ApplicationType() op.ApplicationType                      { return op.ApplicationTypeNative }
func (client) AuthMethod() oidc.AuthMethod                              { return oidc.AuthMethodNone }
func (client) ResponseTypes() []oidc.ResponseType                       { return []oidc.ResponseType{oidc.ResponseTypeCode} }
func (client) GrantTypes() []oidc.GrantType                             { return []oidc.GrantType{oidc.GrantTypeCode} }
func (client) LoginURL(id string) string                                { return "/login?request=" + id }
func (client) AccessTokenType() op.AccessTokenType                      { return op.AccessTokenTypeJWT }
func (client) IDTokenLifetime() time.Duration                           { return Lifetime }
func (client) DevMode() bool                                            { return true }
func (client) RestrictAdditionalIdTokenScopes() func([]string) []string { return asTheyAre } //nolint:revive // the library's name
func (client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return asTheyAre
}
func (client) IsScopeAllowed(string) bool           { return false }
func (client) IDTokenUserinfoClaimsAssertion() bool { return true }
func (client) ClockSkew() time.Duration             { return 0 }

// RedirectURIGlobs are any on loopback; CreateAuthRequest looks closer.
func (client) RedirectURIGlobs() []string {
	return []string{"http://127.0.0.1:*/**", "http://localhost:*/**"}
}
func (client) PostLogoutRedirectURIGlobs() []string { return nil }

func asTheyAre(scopes []string) []string { return scopes }

// signer is the private key, published the public one.
type (
	signer    struct{ key *signing.Key }
	published struct{ key *signing.Key }
)

// The methods of op.SigningKey and op.Key.

func (k signer) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k signer) Key() any                                    { return k.key.Private() }
func (k signer) ID() string                                  { return k.key.ID() }

func (k published) ID() string                         { return k.key.ID() }
func (k published) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k published) Use() string                        { return "sig" }
func (k published) Key() any                           { return k.key.Private().Public() }
