// Package identitytest is an OpenID provider for tests: discovery and keys over
// HTTP, and tokens of any kind, bad ones among them.
package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/go-json-experiment/json"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// Audience is that of the tokens.
const Audience = "usher"

// Key is one that a provider signs by.
type Key struct {
	ID        string
	Private   crypto.Signer
	Algorithm jose.SignatureAlgorithm
}

// NewKey makes an ES256 key.
func NewKey(tb testing.TB, id string) Key {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return Key{id, private, jose.ES256}
}

// NewRSAKey makes an RS256 key.
func NewRSAKey(tb testing.TB, id string) Key {
	tb.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048) //nolint:mnd // the least that is allowed
	must(tb, err)
	return Key{id, private, jose.RS256}
}

// Provider is one on loopback, for the time of a test.
type Provider struct {
	tb     testing.TB
	server *httptest.Server

	mu      sync.Mutex
	keys    []Key
	down    bool
	fetches atomic.Int64 // of the keys
}

// New starts a provider that publishes keys.
func New(tb testing.TB, keys ...Key) *Provider {
	tb.Helper()
	p := &Provider{tb: tb, keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.answer(w, map[string]any{"issuer": p.Issuer(), "jwks_uri": p.Issuer() + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		p.answer(w, p.published())
	})
	p.server = httptest.NewServer(mux)
	tb.Cleanup(p.server.Close)
	return p
}

func (p *Provider) published() (set jose.JSONWebKeySet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range p.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Private.Public(), KeyID: key.ID, Algorithm: string(key.Algorithm), Use: "sig"})
	}
	return set
}

func (p *Provider) answer(w http.ResponseWriter, body any) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		http.Error(w, "out of order", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, body)
}

// Issuer is the provider's URL.
func (p *Provider) Issuer() string { return p.server.URL }

// Publish replaces the keys that are published.
func (p *Provider) Publish(keys ...Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// SetDown makes the provider answer with errors, or no more.
func (p *Provider) SetDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Fetches is how often the keys were asked for.
func (p *Provider) Fetches() int64 { return p.fetches.Load() }

// Claims are those of a good token of account at now, with a verified address
// ACCOUNT@example.com; changes replace, or with nil remove, claims.
func (p *Provider) Claims(account string, now time.Time, changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": p.Issuer(), "aud": Audience, "sub": account, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"email": account + "@example.com", "email_verified": true, "name": account,
	}
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
			continue
		}
		claims[name] = value
	}
	return claims
}

// Token is a good token of account, signed by the first key.
func (p *Provider) Token(account string, changes map[string]any) string {
	p.mu.Lock()
	key := p.keys[0]
	p.mu.Unlock()
	return Sign(p.tb, key.Algorithm, key.Private, key.ID, p.Claims(account, time.Now(), changes))
}

// Sign makes a token of claims, by any algorithm and key.
func Sign(tb testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	tb.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if id != "" {
		options = options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	must(tb, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	must(tb, err)
	return token
}
