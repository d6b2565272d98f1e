package signin_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/cmd/usher/dev/signin"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a sign-in that offers ben, and a client of it that follows no redirect.
type fixture struct {
	*signin.Server

	t      *testing.T
	client *http.Client
}

func setup(t *testing.T) *fixture {
	t.Helper()
	key, err := signing.Generate()
	require.NoError(t, err)
	s, err := signin.Start(t.Context(), signin.Options{
		Listen: "127.0.0.1:0", Key: key, Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
		Accounts: []policies.Account{{ID: "ben", Email: "ben@northwind.example", DisplayName: "Ben <Okafor>"}},
	})
	require.NoError(t, err)
	client := &http.Client{
		Transport: &http.Transport{}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, s.Stop(ctx))
	})
	return &fixture{s, t, client}
}

func (f *fixture) do(method, target string, form url.Values, change ...func(*http.Request)) (*http.Response, string) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, target, strings.NewReader(form.Encode()))
	require.NoError(f.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range change {
		c(r)
	}
	response, err := f.client.Do(r)
	require.NoError(f.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(f.t, err)
	return response, string(body)
}

// proves is what the admin server takes a token for.
func (f *fixture) proves(token string) identity.Identity {
	f.t.Helper()
	v, err := identity.New(identity.Options{Issuer: f.URL(), Audience: signin.Audience, Client: f.client})
	require.NoError(f.t, err)
	found, err := v.Verify(f.t.Context(), strings.TrimSpace(token))
	require.NoError(f.t, err)
	return found
}

var ben = identity.Identity{Account: "ben", Email: "ben@northwind.example", DisplayName: "Ben <Okafor>"}

// TestCodeFlow signs in as the console will: authorization code with PKCE.
func TestCodeFlow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := oidc.ClientContext(t.Context(), f.client)
	provider, err := oidc.NewProvider(ctx, f.URL())
	require.NoError(t, err)
	config := oauth2.Config{
		ClientID: signin.ClientID, Endpoint: provider.Endpoint(), RedirectURL: "http://127.0.0.1:8080/console/callback",
		Scopes: []string{"openid", "email", "profile"},
	}
	verifier := oauth2.GenerateVerifier()
	begin, _ := f.do(http.MethodGet, config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier), oidc.Nonce("nonce")), nil)
	require.Equal(t, http.StatusFound, begin.StatusCode)
	login, err := begin.Location()
	require.NoError(t, err)
	shown, page := f.do(http.MethodGet, login.String(), nil)
	require.Equal(t, http.StatusOK, shown.StatusCode)
	require.Contains(t, shown.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.Contains(t, page, "Ben &lt;Okafor&gt;")
	request := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page)[1]
	form := url.Values{"request": {request}, "account": {"ben"}}
	foreign, _ := f.do(http.MethodPost, f.URL()+"/login", form, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
	require.Equal(t, http.StatusForbidden, foreign.StatusCode)
	chosen, _ := f.do(http.MethodPost, f.URL()+"/login", form)
	require.Equal(t, http.StatusSeeOther, chosen.StatusCode)
	callback, err := chosen.Location()
	require.NoError(t, err)
	back, _ := f.do(http.MethodGet, callback.String(), nil)
	require.Equal(t, http.StatusFound, back.StatusCode)
	home, err := back.Location()
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", home.Host)
	require.Equal(t, "state", home.Query().Get("state"))
	code := home.Query().Get("code")

	_, err = config.Exchange(ctx, code, oauth2.VerifierOption(oauth2.GenerateVerifier()))
	require.Error(t, err, "the wrong verifier")
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	require.NoError(t, err)
	require.Equal(t, ben, f.proves(token.AccessToken))
	id, ok := token.Extra("id_token").(string)
	require.True(t, ok)
	require.Equal(t, ben, f.proves(id))
	_, err = config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	require.Error(t, err, "a code is good once")
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	require.NoError(t, err)
	require.Equal(t, "ben@northwind.example", info.Email)
	require.True(t, info.EmailVerified)
}

// TestRefusedFlows: without PKCE, to another machine, for another client.
func TestRefusedFlows(t *testing.T) {
	t.Parallel()
	f := setup(t)
	good := url.Values{
		"client_id": {signin.ClientID}, "redirect_uri": {"http://127.0.0.1:8080/console"}, "response_type": {"code"}, "scope": {"openid"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier("v")}, "code_challenge_method": {"S256"},
	}
	started := func(change ...string) bool {
		query := url.Values{}
		maps.Copy(query, good)
		for i := 0; i < len(change); i += 2 {
			query.Set(change[i], change[i+1])
		}
		response, _ := f.do(http.MethodGet, f.URL()+"/authorize?"+query.Encode(), nil)
		return strings.HasPrefix(response.Header.Get("Location"), "/login") || strings.HasPrefix(response.Header.Get("Location"), f.URL()+"/login")
	}
	require.True(t, started())
	require.False(t, started("code_challenge", ""))
	require.False(t, started("code_challenge_method", "plain"))
	require.False(t, started("redirect_uri", "https://evil.example/"))
	require.False(t, started("redirect_uri", "http://127.0.0.1.evil.example/"))
	require.False(t, started("redirect_uri", "http://127.0.0.1:80@evil.example/"))
	require.False(t, started("client_id", "other"))
	require.False(t, started("response_type", "token"))
}

// TestToken: a script gets a token by one request.
func TestToken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := func(form url.Values, change ...func(*http.Request)) (int, string) {
		response, body := f.do(http.MethodPost, f.URL()+"/dev/token", form, change...)
		return response.StatusCode, body
	}
	status, text := token(url.Values{"account": {"ben"}})
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, ben, f.proves(text))
	_, text = token(url.Values{"account": {"zoe"}, "email": {"zoe@example.com"}, "name": {"Zoe"}})
	require.Equal(t, identity.Identity{Account: "zoe", Email: "zoe@example.com", DisplayName: "Zoe"}, f.proves(text))
	_, text = token(url.Values{"account": {"ben"}, "email_verified": {"false"}})
	require.Equal(t, identity.Identity{Account: "ben", DisplayName: "Ben <Okafor>"}, f.proves(text))

	status, _ = token(url.Values{})
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = token(url.Values{"account": {"ben"}}, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
	require.Equal(t, http.StatusForbidden, status)
	status, _ = token(url.Values{"account": {"ben"}}, func(r *http.Request) { r.Host = "evil.example" })
	require.Equal(t, http.StatusMisdirectedRequest, status)
	// Another site's page may not read an answer.
	response, _ := f.do(http.MethodGet, f.URL()+"/keys", nil, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
	require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
}
