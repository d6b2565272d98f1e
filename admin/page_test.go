package admin_test

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// page is an answer that is a page, and lets nothing out.
func (a answer) page(status int) string {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s: %s", a.what, a.body)
	require.Equal(a.t, "text/html; charset=utf-8", a.header.Get("Content-Type"))
	require.Equal(a.t, "no-referrer", a.header.Get("Referrer-Policy"))
	require.Equal(a.t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(a.t, "nosniff", a.header.Get("X-Content-Type-Options"))
	policy := a.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		require.Contains(a.t, policy, part)
	}
	require.NotContains(a.t, policy, "unsafe")
	require.Empty(a.t, regexp.MustCompile(`(?i)<script|https?://| src=| on[a-z]+=`).FindString(string(a.body)), "%s", a.body)
	return string(a.body)
}

// form answers the page as a browser does.
func (p *platform) form(path, body string) answer {
	p.t.Helper()
	return p.do("POST", path, body, anonymous(), with("Content-Type", "application/x-www-form-urlencoded"))
}

// The link of the mail opens a page that shows the invitation to whoever holds it, and
// takes the answer.
func TestInvitationPage(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	p := inviting(t, func(o *admin.Options) { o.RegistrationURL = h.URL })
	p.do("PUT", "/v1/accounts/own", m{"email": "own@example.com", "display_name": `<script>alert("Ö")</script>`}).want(200)
	id := p.invite("nia@example.com")
	path := strings.TrimPrefix(p.link("own", id), "/v1")

	shown := p.do("GET", path, nil, anonymous()).page(200)
	for _, text := range []string{"nia@example.com", "Shop", "Viewer", "&lt;script&gt;", `value="accept"`, `value="reject"`} {
		require.Contains(t, shown, text)
	}
	require.NotContains(t, shown, strings.TrimPrefix(path, "/invitations/"), "the secret is in the address alone")
	require.Equal(t, shown, p.do("GET", path, nil, anonymous()).page(200), "a GET changes nothing")
	for _, wrong := range []string{"", "answer=maybe", "answer=%zz", "accept", strings.Repeat("x", 10_000)} {
		p.form(path, wrong).page(400)
	}
	p.do("POST", path, `{"answer": "accept"}`, anonymous()).page(400)
	p.do("DELETE", path, nil, anonymous()).want(401)
	h.status.Store(500)
	require.NotEmpty(t, p.form(path, "answer=accept").header.Get("Retry-After"))
	h.status.Store(201)

	require.Contains(t, p.form(path, "answer=accept").page(200), "You are a member now")
	require.Equal(t, "active", p.do("GET", "/v1/accounts/own/members/"+id, nil).want(200).text("status"))
	entry := p.do("GET", "/v1/accounts/own/audit?order=desc&limit=1", nil).want(200)
	require.Equal(t, "invitation.accept", entry.text("items.0.action"))
	at, ok := entry.get("items.0.revision").(float64)
	require.True(t, ok)
	require.Equal(t, true, p.check("new-nia", viewAction, "environment", "e", policies.Revision(at)).get("decision"))

	// A link that opens nothing is always answered the same.
	none := p.do("GET", path, nil, anonymous()).page(404)
	require.Equal(t, none, p.form(path, "answer=accept").page(404))
	require.Equal(t, none, p.form(path, "answer=reject").page(404))
	require.Equal(t, none, p.do("GET", "/invitations/x", nil, anonymous()).page(404))

	// Where an account has the address it must sign in; declining needs the link alone.
	p.account("mia")
	path = strings.TrimPrefix(p.link("own", p.invite("mia@example.com")), "/v1")
	shown = p.do("GET", path, nil, anonymous()).page(200)
	require.NotContains(t, shown, `value="accept"`)
	require.Contains(t, shown, "sign in to the platform with mia@example.com")
	p.form(path, "answer=accept").page(401)
	require.Contains(t, p.form(path, "answer=reject").page(200), "You declined")
	p.do("GET", path, nil, anonymous()).page(404)

	require.Contains(t, string(p.do("GET", "/metrics", nil).body), `usher_invitations_total{event="accepted"} 1`)
	require.Contains(t, string(p.do("GET", "/metrics", nil).body), `usher_invitations_total{event="rejected"} 1`)
	require.NotContains(t, string(p.do("GET", "/metrics", nil).body), strings.TrimPrefix(path, "/invitations/"))
}

// Cleaning grants away that have ended changes no decision: what they hid is uncovered
// when they end, and stays so.
func TestCleaningChangesNoDecision(t *testing.T) {
	t.Parallel()
	clock := &atomic.Int64{}
	now := func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	p := inviting(t, func(o *admin.Options) { o.Clock = now })
	p.account("mia")
	p.do("POST", "/v1/accounts/own/roles", m{"id": "dev", "name": "Developer", "policies": []string{"environment.start"}}).want(201)
	ending := grant("environment", "e", "dev")
	ending["expires_at"] = now().Add(time.Hour).UTC().Format(time.RFC3339)
	id := p.member("own", "mia", ending, grant("environments", "own", "viewer"))
	s, err := store.Open(context.Background(), store.Options{URL: p.database, Clock: now})
	require.NoError(t, err)
	defer s.Close()
	answers := func() (all []any) {
		head, err := s.Head(t.Context())
		require.NoError(t, err)
		for _, action := range []string{viewAction, "environment.control.StartEnv", "own.Do"} {
			for _, r := range [][2]string{{"environment", "e"}, {"environments", "own"}, {"groups", "own"}} {
				a := p.check("mia", action, r[0], r[1], head.Revision)
				all = append(all, []any{a.get("decision"), a.get("context.reason"), a.get("context.level"), a.get("context.roles")})
			}
		}
		return all
	}
	covered := answers()
	clock.Store(int64(2 * time.Hour))
	uncovered := answers()
	require.NotEqual(t, covered, uncovered)
	require.Equal(t, 2, p.do("GET", "/v1/accounts/own/members/"+id, nil).want(200).len("grants"), "shown until cleaned")
	n, err := s.CleanGrants(t.Context(), now())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, uncovered, answers())
	require.Equal(t, 1, p.do("GET", "/v1/accounts/own/members/"+id, nil).want(200).len("grants"))
}
