package identity_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/identity/identitytest"
)

// fixture is a verifier of a provider's tokens, with a clock of its own.
type fixture struct {
	*identitytest.Provider

	verifier *identity.Verifier
	mu       sync.Mutex
	now      time.Time
}

func setup(t *testing.T, keys ...identitytest.Key) *fixture {
	t.Helper()
	f := &fixture{Provider: identitytest.New(t, keys...), now: time.Now()}
	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	var err error
	f.verifier, err = identity.New(identity.Options{
		Issuer: f.Issuer(), Audience: identitytest.Audience, Client: client,
		Clock: func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now },
	})
	require.NoError(t, err)
	return f
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	ec, rs := identitytest.NewKey(t, "ec"), identitytest.NewRSAKey(t, "rs")
	f := setup(t, ec, rs)
	sign := func(key identitytest.Key, changes map[string]any) string {
		return identitytest.Sign(t, key.Algorithm, key.Private, key.ID, f.Claims("mia", f.now, changes))
	}
	for name, c := range map[string]struct {
		token string
		want  identity.Identity
	}{
		"ES256":                  {sign(ec, nil), identity.Identity{Account: "mia", Email: "mia@example.com", DisplayName: "mia"}},
		"RS256":                  {sign(rs, nil), identity.Identity{Account: "mia", Email: "mia@example.com", DisplayName: "mia"}},
		"no kid":                 {identitytest.Sign(t, ec.Algorithm, ec.Private, "", f.Claims("mia", f.now, nil)), identity.Identity{Account: "mia", Email: "mia@example.com", DisplayName: "mia"}},
		"several audiences":      {sign(ec, map[string]any{"aud": []string{"x", identitytest.Audience}, "email": nil, "name": nil}), identity.Identity{Account: "mia"}},
		"the email not verified": {sign(ec, map[string]any{"email_verified": false}), identity.Identity{Account: "mia", DisplayName: "mia"}},
		"verified by no word":    {sign(ec, map[string]any{"email_verified": nil}), identity.Identity{Account: "mia", DisplayName: "mia"}},
		"verified as text":       {sign(ec, map[string]any{"email_verified": "true"}), identity.Identity{Account: "mia", Email: "mia@example.com", DisplayName: "mia"}},
		"no address":             {sign(ec, map[string]any{"email": "mia", "name": "M\u202eia"}), identity.Identity{Account: "mia"}},
		"a clock apart":          {sign(ec, map[string]any{"exp": f.now.Add(-50 * time.Second).Unix(), "nbf": f.now.Add(50 * time.Second).Unix()}), identity.Identity{Account: "mia", Email: "mia@example.com", DisplayName: "mia"}},
	} {
		got, err := f.verifier.Verify(t.Context(), c.token)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	key, rs := identitytest.NewKey(t, "key"), identitytest.NewRSAKey(t, "rs")
	f := setup(t, key, rs)
	claims := func(changes map[string]any) map[string]any { return f.Claims("mia", f.now, changes) }
	sign := func(changes map[string]any) string {
		return identitytest.Sign(t, key.Algorithm, key.Private, key.ID, claims(changes))
	}
	der, err := x509.MarshalPKIXPublicKey(rs.Private.Public())
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := sign(nil)
	parts := strings.Split(good, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	other := identitytest.NewKey(t, "key")
	for name, token := range map[string]string{
		"expired":                sign(map[string]any{"exp": f.now.Add(-2 * time.Minute).Unix()}),
		"without an end":         sign(map[string]any{"exp": nil}),
		"not good yet":           sign(map[string]any{"nbf": f.now.Add(2 * time.Minute).Unix()}),
		"of another issuer":      sign(map[string]any{"iss": f.Issuer() + "/"}),
		"for another audience":   sign(map[string]any{"aud": "console"}),
		"for nobody":             sign(map[string]any{"aud": nil}),
		"of no account":          sign(map[string]any{"sub": nil}),
		"of an empty account":    sign(map[string]any{"sub": ""}),
		"of a number":            sign(map[string]any{"sub": 7}),
		"HS256 by the DER key":   identitytest.Sign(t, jose.HS256, der, rs.ID, claims(nil)),
		"HS256 by the PEM key":   identitytest.Sign(t, jose.HS256, public, rs.ID, claims(nil)),
		"alg none":               encode(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".",
		"alg None":               encode(`{"alg":"None","kid":"key"}`) + "." + parts[1] + "." + parts[2],
		"no signature":           parts[0] + "." + parts[1] + ".",
		"another payload":        parts[0] + "." + encode(`{"sub":"eve"}`) + "." + parts[2],
		"an unknown kid":         identitytest.Sign(t, key.Algorithm, key.Private, "new", claims(nil)),
		"another key, same kid":  identitytest.Sign(t, other.Algorithm, other.Private, "key", claims(nil)),
		"another key, no kid":    identitytest.Sign(t, other.Algorithm, other.Private, "", claims(nil)),
		"another algorithm":      identitytest.Sign(t, jose.PS256, rs.Private, rs.ID, claims(nil)),
		"nothing":                "",
		"rubbish":                "a.b.c",
		"two tokens":             good + "." + good,
		"with more behind":       good + "x",
		"JSON serialized":        `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"an embedded key":        embedded(t, other, claims(nil)),
		"a claim by another way": sign(map[string]any{"sub": nil, "Sub": "mia", "SUB": "mia"}),
	} {
		_, err := f.verifier.Verify(t.Context(), token)
		require.ErrorIs(t, err, identity.ErrRefused, name)
	}
	_, err = f.verifier.Verify(t.Context(), good)
	require.NoError(t, err)
}

// embedded is a token that brings its own key (RFC 7515, 4.1.3).
func embedded(t *testing.T, key identitytest.Key, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: key.Algorithm, Key: key.Private}, &jose.SignerOptions{EmbedJWK: true})
	require.NoError(t, err)
	body := `{"iss":"` + claims["iss"].(string) + `","aud":"usher","sub":"mia","exp":99999999999}`
	signed, err := signer.Sign([]byte(body))
	require.NoError(t, err)
	token, err := signed.CompactSerialize()
	require.NoError(t, err)
	return token
}

// TestRotation: a new key is found when a token names it, an old one stops once it
// is withdrawn, and tokens of unknown keys do not make us ask all the time.
func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := identitytest.NewKey(t, "1"), identitytest.NewKey(t, "2")
	f := setup(t, first)
	by := func(key identitytest.Key) error {
		_, err := f.verifier.Verify(t.Context(), identitytest.Sign(t, key.Algorithm, key.Private, key.ID, f.Claims("mia", f.now, nil)))
		return err
	}
	require.NoError(t, by(first))
	f.Publish(first, second)
	f.pass(2 * time.Second)
	require.NoError(t, by(second))
	require.NoError(t, by(first))
	asked := f.Fetches()
	require.Equal(t, int64(2), asked)
	for range 20 {
		require.ErrorIs(t, by(identitytest.NewKey(t, "3")), identity.ErrRefused)
	}
	require.Equal(t, asked, f.Fetches())
	f.pass(2 * time.Second)
	require.ErrorIs(t, by(identitytest.NewKey(t, "3")), identity.ErrRefused)
	require.Equal(t, asked+1, f.Fetches())

	f.Publish(second)
	require.NoError(t, by(first)) // for minutes
	f.pass(6 * time.Minute)
	require.ErrorIs(t, by(first), identity.ErrRefused)
	require.NoError(t, by(second))
}

// TestProviderDown: what is known counts on, what is not cannot be told.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	key, next := identitytest.NewKey(t, "1"), identitytest.NewKey(t, "2")
	f := setup(t, key)
	by := func(key identitytest.Key) error {
		_, err := f.verifier.Verify(t.Context(), identitytest.Sign(t, key.Algorithm, key.Private, key.ID, f.Claims("mia", f.now, nil)))
		return err
	}
	f.SetDown(true)
	var down *identity.UnavailableError
	require.ErrorAs(t, by(key), &down)
	f.SetDown(false)
	require.ErrorAs(t, by(key), &down, "not asked again at once")
	f.pass(2 * time.Second)
	require.NoError(t, by(key))

	f.SetDown(true)
	f.Publish(key, next)
	f.pass(10 * time.Minute)
	require.NoError(t, by(key))
	f.pass(2 * time.Second)
	require.ErrorAs(t, by(next), &down)
	require.NoError(t, by(key))
	f.SetDown(false)
	f.pass(2 * time.Second)
	require.NoError(t, by(next))
}

// TestAtOnce: many first tokens ask the provider once.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, identitytest.NewKey(t, "1"))
	token := f.Token("mia", nil)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := f.verifier.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, int64(1), f.Fetches())
}

func TestAccountClaim(t *testing.T) {
	t.Parallel()
	p := identitytest.New(t, identitytest.NewKey(t, "1"))
	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	v, err := identity.New(identity.Options{Issuer: p.Issuer(), Audience: identitytest.Audience, AccountClaim: "paas_id", Client: client})
	require.NoError(t, err)
	got, err := v.Verify(t.Context(), p.Token("mia", map[string]any{"paas_id": "m-17"}))
	require.NoError(t, err)
	require.EqualValues(t, "m-17", got.Account)
	_, err = v.Verify(t.Context(), p.Token("mia", nil))
	require.ErrorIs(t, err, identity.ErrRefused)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    identity.Options
		want string
	}{
		{identity.Options{Issuer: "https://id.example.com"}, "--oidc-audience"},
		{identity.Options{Audience: "usher"}, "needs --oidc-issuer"},
		{identity.Options{Issuer: "http://id.example.com", Audience: "usher"}, "must be https"},
		{identity.Options{Issuer: "id.example.com", Audience: "usher"}, "must be a URL"},
		{identity.Options{Issuer: "https://u:p@id.example.com", Audience: "usher"}, "must be a URL"},
	} {
		_, err := identity.New(c.o)
		require.ErrorContains(t, err, c.want)
	}
	require.NoError(t, identity.Options{Issuer: "http://127.0.0.1:9", Audience: "usher"}.Validate())
}
