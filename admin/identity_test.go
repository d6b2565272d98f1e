package admin_test

import (
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/identity/identitytest"
)

// provider is the platform's OpenID provider.
type provider struct {
	*identitytest.Provider

	keys []identitytest.Key
}

// startWithProvider runs an admin server that takes the provider's JWTs.
func startWithProvider(t *testing.T) (*platform, *provider) {
	t.Helper()
	keys := []identitytest.Key{identitytest.NewKey(t, "ec"), identitytest.NewRSAKey(t, "rs")}
	p := &provider{identitytest.New(t, keys...), keys}
	return start(t, func(o *admin.Options) {
		o.Identity = identity.Options{Issuer: p.Issuer(), Audience: identitytest.Audience}
	}), p
}

// as signs in as account, with the verified address ACCOUNT@example.com.
func (p *provider) as(account string) option { return p.with(account, nil) }

// with signs in as account with other claims than usual.
func (p *provider) with(account string, changes map[string]any) option {
	return with("Authorization", "Bearer "+p.Token(account, changes))
}

// badTokens are those that must open nothing, of an account that may everything.
func badTokens(t *testing.T, p *provider) map[string]string {
	t.Helper()
	ec, rs := p.keys[0], p.keys[1]
	claims := p.Claims("own", time.Now(), nil)
	public, err := x509.MarshalPKIXPublicKey(rs.Private.Public())
	require.NoError(t, err)
	good := strings.Split(p.Token("own", nil), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	return map[string]string{
		"expired":               p.Token("own", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"another issuer":        p.Token("own", map[string]any{"iss": "https://id.example.com"}),
		"another audience":      p.Token("own", map[string]any{"aud": "another"}),
		"alg none":              none + "." + good[1] + ".",
		"HS256, public key":     identitytest.Sign(t, jose.HS256, public, rs.ID, claims),
		"an unknown kid":        identitytest.Sign(t, ec.Algorithm, ec.Private, "unknown", claims),
		"a key of another's":    identitytest.Sign(t, jose.ES256, identitytest.NewKey(t, ec.ID).Private, ec.ID, claims),
		"a service's with more": "ush_" + p.Token("own", nil),
	}
}

// TestSignedIn: an account by itself may what a service may that acts as it.
func TestSignedIn(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	for _, id := range []string{"own", "mia"} {
		p.account(id)
	}
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	own := provider.as("own")
	p.do("POST", "/v1/accounts/own/roles", m{"id": "viewer", "name": "Viewer", "policies": []string{view}}, own).want(201)
	invited := p.do("POST", "/v1/accounts/own/members", m{"email": "mia@example.com", "grants": []any{grant("environment", "e", "viewer")}}, own,
		with("Idempotency-Key", "k")).want(201)
	id := invited.text("id")
	require.Equal(t, id, p.do("GET", "/v1/collaborations", nil, provider.as("mia")).want(200).text("items.0.id"))
	p.do("POST", "/v1/collaborations/"+id+"/accept", nil, provider.as("mia")).want(200)
	revision := p.do("PATCH", "/v1/collaborations/"+id, m{"display_name": "Own & Co"}, provider.as("mia")).want(200).revision()
	require.Equal(t, true, p.check("mia", "environment.control.GetEnvInfo", "environment", "e", revision).get("decision"))
	// Not more than that account's.
	seen := p.do("GET", "/v1/accounts/own/members", nil, provider.as("mia")).want(200)
	require.Equal(t, 1, seen.len("items"))
	require.Equal(t, "mia", seen.text("items.0.account"), "itself, and nobody else")
	p.do("PUT", "/v1/accounts/mia", m{"email": "other@example.com"}, provider.as("mia")).want(403)
	p.do("GET", "/v1/audit", nil, own).want(403)

	entry := p.do("GET", "/v1/accounts/own/audit?order=desc&limit=1", nil, own).want(200)
	require.Equal(t, "mia", entry.text("items.0.acted_as"))
	require.Nil(t, entry.get("items.0.actor.token"), "%s", entry.body)
}

// TestProviderDown: the server starts and serves without its provider; JWTs are
// taken as soon as it is back.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	p.account("mia")
	provider.SetDown(true)
	a := p.do("GET", "/v1/collaborations", nil, provider.as("mia")).want(503)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	p.do("GET", "/ready", nil).want(200)
	p.do("GET", "/v1/collaborations", nil, as("mia")).want(200)
	provider.SetDown(false)
	eventually(t, time.Minute, func() bool {
		return p.do("GET", "/v1/collaborations", nil, provider.as("mia")).status == http.StatusOK
	})
}

// TestWithoutProvider: no JWT opens anything.
func TestWithoutProvider(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("mia")
	other := &provider{Provider: identitytest.New(t, identitytest.NewKey(t, "1"))}
	p.do("GET", "/v1/collaborations", nil, other.as("mia")).want(401)
	require.NotContains(t, string(p.do("GET", "/openapi.json", nil).body), "openIdConnect")
}

// TestRegister: an account that usher does not know gets in by an invitation of its
// verified address, and by nothing else.
func TestRegister(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	for _, id := range []string{"own", "mia"} {
		p.account(id)
	}
	invite := func(email string) string {
		return p.do("POST", "/v1/accounts/own/members", m{"email": email, "grants": []any{}}).want(201).text("id")
	}
	accept := func(id string, who option) answer {
		return p.do("POST", "/v1/collaborations/"+id+"/accept", nil, who)
	}
	zoe := invite("Zoe@Example.com")
	accept(zoe, provider.with("zoe", map[string]any{"email_verified": false})).want(404)
	accept(zoe, provider.with("zoe", map[string]any{"email": nil})).want(404)
	accept(zoe, provider.as("max")).want(404)
	accept(zoe, provider.with("not an id", map[string]any{"email": "zoe@example.com"})).want(403)
	accept(zoe, provider.as("mia")).want(404)
	p.do("GET", "/v1/accounts/zoe", nil).want(404)
	require.Equal(t, "active", accept(zoe, provider.with("zoe", map[string]any{"name": "Zoe Z."})).want(200).text("status"))
	account := p.do("GET", "/v1/accounts/zoe", nil).want(200)
	require.Equal(t, "zoe@example.com", account.text("email"))
	require.Equal(t, "Zoe Z.", account.text("display_name"))
	require.Equal(t, zoe, p.do("GET", "/v1/collaborations", nil, provider.as("zoe")).want(200).text("items.0.id"))
	accept(zoe, provider.as("zoe")).want(409)

	// A known account needs the address verified, too, until it is bound.
	id := invite("mia@example.com")
	accept(id, provider.with("mia", map[string]any{"email_verified": false})).want(403)
	accept(id, provider.with("mia", map[string]any{"email": "mia@other.example"})).want(403)
	accept(id, provider.as("mia")).want(200)
	p.do("POST", "/v1/collaborations/"+id+"/leave", nil, provider.as("mia")).want(200)
	p.do("POST", "/v1/accounts/own/members/"+id+"/reinvite", nil).want(200)
	accept(id, provider.with("mia", map[string]any{"email": nil})).want(200)

	// The provider has another address of a known account than usher has.
	p.account("ida")
	id = invite("ida@new.example")
	accept(id, provider.with("ida", map[string]any{"email": "ida@new.example"})).want(200)
	require.Equal(t, "ida@example.com", p.do("GET", "/v1/accounts/own/members/"+id, nil).want(200).text("email"))
	// One that is a member already, or the owner, cannot become one more.
	id = invite("ida@newer.example")
	accept(id, provider.with("ida", map[string]any{"email": "ida@newer.example"})).want(409)
	accept(id, provider.with("own", map[string]any{"email": "ida@newer.example"})).want(403)
	// An invitation that has ended registers nobody.
	p.do("DELETE", "/v1/accounts/own/members/"+id, nil).want(204)
	accept(id, provider.with("new", map[string]any{"email": "ida@newer.example"})).want(409)
	p.do("GET", "/v1/accounts/new", nil).want(404)
}

// TestLinkSignedIn: by a link, too, only a verified address opens an invitation, and a
// refused attempt does not use it up.
func TestLinkSignedIn(t *testing.T) {
	t.Parallel()
	p, provider := startWithProvider(t)
	p.account("own")
	p.account("mia")
	invite := func(email string) (id, link string) {
		id = p.do("POST", "/v1/accounts/own/members", m{"email": email, "grants": []any{}}).want(201).text("id")
		return id, p.link("own", id)
	}
	_, link := invite("zoe@example.com")
	p.do("GET", link, nil, provider.as("zoe")).want(200)
	for _, who := range []option{
		provider.with("zoe", map[string]any{"email_verified": false}), provider.as("max"), provider.as("mia"), provider.as("own"), as("mia"),
	} {
		p.do("POST", link+"/accept", nil, who).want(403)
	}
	p.do("POST", link+"/accept", nil, provider.with("zoe", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})).want(401)
	p.do("GET", "/v1/accounts/zoe", nil).want(404)
	p.do("POST", link+"/accept", nil, anonymous()).want(401)
	accepted := p.do("POST", link+"/accept", m{"display_name": "Zoe Z."}, provider.as("zoe")).want(200)
	require.Equal(t, "zoe", accepted.text("account"))
	require.Equal(t, "Zoe Z.", p.do("GET", "/v1/accounts/zoe", nil).want(200).text("display_name"))
	p.do("POST", link+"/accept", nil, provider.as("zoe")).want(404)

	_, link = invite("mia@example.com")
	p.do("POST", link+"/accept", nil, provider.with("mia", map[string]any{"email_verified": false})).want(403)
	p.do("POST", link+"/accept", nil, provider.as("mia")).want(200)
	// Another address of a known account than usher has.
	p.account("ida")
	id, link := invite("ida@new.example")
	p.do("POST", link+"/accept", nil, provider.with("ida", map[string]any{"email": "ida@new.example"})).want(200)
	require.Equal(t, "ida", p.do("GET", "/v1/accounts/own/members/"+id, nil).want(200).text("account"))
	_, link = invite("ida@newer.example")
	p.do("POST", link+"/accept", nil, provider.with("ida", map[string]any{"email": "ida@newer.example"})).want(409)
	p.do("POST", link+"/reject", nil, provider.as("nobody")).want(200)
}
