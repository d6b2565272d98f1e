package admin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// link makes a link to a member's present invitation, as the mail of it has one.
func (p *platform) link(owner, member string) string {
	p.t.Helper()
	conn, err := pgx.Connect(context.Background(), p.database)
	require.NoError(p.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var invitation string
	require.NoError(p.t, conn.QueryRow(context.Background(), `select invitation from collaborations where id = $1`, member).Scan(&invitation))
	s, err := store.Open(context.Background(), store.Options{URL: p.database})
	require.NoError(p.t, err)
	defer s.Close()
	secret, err := s.NewLink(context.Background(), policies.AccountID(owner), policies.CollaborationID(member), invitation)
	require.NoError(p.t, err)
	return "/v1/invitations/" + secret
}

// anonymous is a request of somebody who holds a link, and nothing else.
func anonymous() option { return without("Authorization") }

// hook is the platform's registration: ids by address.
type hook struct {
	*httptest.Server

	calls  atomic.Int32
	status atomic.Int32
	before func()
}

func newHook(tb testing.TB) *hook {
	tb.Helper()
	h := &hook{before: func() {}}
	h.status.Store(http.StatusCreated)
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		h.calls.Add(1)
		h.before()
		email, _, _ := strings.Cut(strings.TrimPrefix(string(data), `{"email":"`), "@")
		w.WriteHeader(int(h.status.Load()))
		_, _ = fmt.Fprintf(w, `{"id": "new-%s"}`, strings.ToLower(email))
	}))
	tb.Cleanup(h.Close)
	return h
}

// inviting is a platform with an owner, a role and an environment to share.
func inviting(tb testing.TB, change ...func(*admin.Options)) *platform {
	tb.Helper()
	p := start(tb, change...)
	p.account("own")
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "Shop"}).want(201)
	p.do("POST", "/v1/accounts/own/policies", m{"id": "extra", "name": "Extra", "resources": []string{"environment"}, "actions": []string{"own.Do"}}).want(201)
	p.do("POST", "/v1/accounts/own/roles", m{"id": "viewer", "name": "Viewer", "description": "Sees", "policies": []string{view, "extra"}}).want(201)
	return p
}

func (p *platform) invite(email string) string {
	p.t.Helper()
	return p.do("POST", "/v1/accounts/own/members", m{"email": email, "display_name": "Nia", "grants": []any{grant("environment", "e", "viewer")}}).want(201).text("id")
}

func TestLinkShowsTheInvitation(t *testing.T) {
	t.Parallel()
	p := inviting(t)
	link := p.link("own", p.invite("nia@example.com"))
	head := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body
	for range 2 {
		a := p.do("GET", link, nil, anonymous()).want(200)
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		require.Equal(t, "OWN", a.text("owner.display_name"))
		require.Equal(t, "nia@example.com", a.text("email"))
		require.Equal(t, "pending", a.text("status"))
		require.Equal(t, false, a.get("sign_in"))
		require.Equal(t, "Shop", a.text("items.0.name"))
		require.Equal(t, "Viewer", a.text("items.0.roles.0.name"))
		require.Equal(t, view, a.text("items.0.roles.0.policies.0.id"))
		require.Equal(t, viewAction, a.text("items.0.roles.0.policies.0.actions.0"))
		require.Equal(t, "own.Do", a.text("items.0.roles.0.policies.1.actions.0"))
	}
	require.Equal(t, head, p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200).body, "a GET changes nothing")
	p.account("nia")
	require.Equal(t, true, p.do("GET", link, nil, anonymous()).want(200).get("sign_in"))
	p.do("GET", link, nil, with("Authorization", "Bearer ush_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).want(401)
}

// Every link that opens nothing is answered by the same bytes, and a refused attempt
// uses none up.
func TestLinksThatOpenNothing(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	now := &atomic.Int64{}
	clock := func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
	p := inviting(t, func(o *admin.Options) { o.RegistrationURL, o.Clock = h.URL, clock })
	id := p.invite("nia@example.com")
	replaced := p.link("own", id)
	p.do("POST", "/v1/accounts/own/members/"+id+"/resend", nil).want(200)
	other := p.link("own", id)
	used := p.link("own", id)
	rejected := p.link("own", p.invite("rex@example.com"))
	p.do("POST", rejected+"/reject", nil, anonymous()).want(200)
	removedID := p.invite("rem@example.com")
	removed := p.link("own", removedID)
	p.do("DELETE", "/v1/accounts/own/members/"+removedID, nil).want(204)
	expired := p.link("own", p.invite("exp@example.com"))

	require.Equal(t, "pending", p.do("GET", used, nil, anonymous()).want(200).text("status"))
	p.do("POST", used+"/accept", m{"display_name": "a\nb"}, anonymous()).want(422)
	p.do("POST", used+"/accept", m{"name": "x"}, anonymous()).want(400)
	h.status.Store(500)
	require.NotEmpty(t, p.do("POST", used+"/accept", nil, anonymous()).want(503).header.Get("Retry-After"))
	h.status.Store(201)
	require.Equal(t, "new-nia", p.do("POST", used+"/accept", nil, anonymous()).want(200).text("account"))
	now.Store(int64(store.DefaultInvitationTTL))

	base := ""
	for _, link := range []string{
		used, other, replaced, rejected, removed, expired, "/v1/invitations/" + strings.Repeat("A", 43), "/v1/invitations/x", "/v1/invitations/%00",
		"/v1/invitations/-_", "/v1/invitations/" + strings.Repeat("A", 5000), "/v1/invitations/a%2Fb", "/v1/invitations/%FF",
	} {
		for _, request := range []string{"GET ", "POST /accept", "POST /reject"} {
			method, suffix, _ := strings.Cut(request, " ")
			a := p.do(method, link+suffix, nil, anonymous()).want(404)
			if base == "" {
				base = string(a.body)
			}
			require.Equal(t, base, string(a.body), "%s %s", method, link)
		}
	}
}

func TestAcceptByTheHolderOfTheLink(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	p := inviting(t, func(o *admin.Options) { o.RegistrationURL = h.URL })
	id := p.invite("Nia@Example.com")
	link := p.link("own", id)

	p.account("eve")
	p.do("POST", link+"/accept", nil, as("eve")).want(403)
	accepted := p.do("POST", link+"/accept", m{"display_name": "Nia N."}, anonymous(), with("Idempotency-Key", "k")).want(200)
	require.Equal(t, "new-nia", accepted.text("account"))
	require.Equal(t, "active", accepted.text("status"))
	require.Equal(t, id, accepted.text("id"))
	account := p.do("GET", "/v1/accounts/new-nia", nil).want(200)
	require.Equal(t, "Nia@Example.com", account.text("email"))
	require.Equal(t, "Nia N.", account.text("display_name"))
	require.Equal(t, true, p.check("new-nia", viewAction, "environment", "e", accepted.revision()).get("decision"))
	entry := p.do("GET", "/v1/audit?order=desc&limit=1", nil).want(200)
	require.Equal(t, "invitation.accept", entry.text("items.0.action"))

	again := p.do("POST", link+"/accept", m{"display_name": "Nia N."}, anonymous(), with("Idempotency-Key", "k")).want(200)
	require.Equal(t, string(accepted.body), string(again.body), "a repetition with the key is answered the same")
	p.do("POST", link+"/accept", nil, anonymous(), with("Idempotency-Key", "other")).want(404)
	require.EqualValues(t, 1, h.calls.Load())

	// Where an account has the address, only that may accept, also when it came between.
	p.account("mia")
	link = p.link("own", p.invite("mia@example.com"))
	p.do("POST", link+"/accept", nil, anonymous()).want(401)
	p.do("POST", link+"/accept", nil, as("eve")).want(403)
	require.Equal(t, "mia", p.do("POST", link+"/accept", nil, as("mia")).want(200).text("account"))
	link = p.link("own", p.invite("tom@example.com"))
	h.before = func() { p.account("tom") }
	p.do("POST", link+"/accept", nil, anonymous()).want(403)
	p.do("POST", link+"/accept", nil, as("tom")).want(200)
	require.EqualValues(t, 2, h.calls.Load())

	// The hook may write the account itself.
	h.before = func() {
		p.do("PUT", "/v1/accounts/new-ann", m{"email": "ann@example.com", "display_name": "Ann"}).want(201)
	}
	link = p.link("own", p.invite("ann@example.com"))
	require.Equal(t, "new-ann", p.do("POST", link+"/accept", nil, anonymous()).want(200).text("account"))
	require.Equal(t, "Ann", p.do("GET", "/v1/accounts/new-ann", nil).want(200).text("display_name"))

	// An account that has another address is not the one.
	h.before = func() { p.do("PUT", "/v1/accounts/new-bob", m{"email": "bobby@example.com"}).want(201) }
	link = p.link("own", p.invite("bob@example.com"))
	p.do("POST", link+"/accept", nil, anonymous()).want(409)
	p.do("GET", link, nil, anonymous()).want(200)
}

func TestAcceptWithoutAHook(t *testing.T) {
	t.Parallel()
	p := inviting(t)
	link := p.link("own", p.invite("nia@example.com"))
	require.Equal(t, []string{"Bearer"}, p.do("POST", link+"/accept", nil, anonymous()).want(401).header.Values("WWW-Authenticate"))
	p.account("nia")
	p.do("POST", link+"/accept", nil, as("nia")).want(200)
}

// A link after the member left: the account is bound, and nobody registers for it.
func TestLinkOfAReinvitation(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	p := inviting(t, func(o *admin.Options) { o.RegistrationURL = h.URL })
	id := p.invite("nia@example.com")
	p.do("POST", p.link("own", id)+"/accept", nil, anonymous()).want(200)
	p.do("POST", "/v1/collaborations/"+id+"/leave", nil, as("new-nia")).want(200)
	p.do("PUT", "/v1/accounts/new-nia", m{"email": "nia@elsewhere.example"}).want(200)
	p.do("POST", "/v1/accounts/own/members/"+id+"/reinvite", nil).want(200)
	link := p.link("own", id)
	p.do("POST", link+"/accept", nil, anonymous()).want(401)
	p.do("POST", link+"/accept", nil, as("new-nia")).want(200)
}

// One of many wins, on two servers, and the others are told that there is nothing to
// accept any more.
func TestAcceptALinkAtOnce(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	database := storetest.URL(t)
	option := func(o *admin.Options) { o.RegistrationURL = h.URL }
	p := startOn(t, database, option)
	q := startOn(t, database, option)
	p.account("own")
	id := p.do("POST", "/v1/accounts/own/members", m{"email": "nia@example.com"}).want(201).text("id")
	links := []string{p.link("own", id), p.link("own", id)}
	var (
		wg       sync.WaitGroup
		statuses [8]int
	)
	for i := range statuses {
		wg.Go(func() {
			server := []*platform{p, q}[i%2]
			event := []string{"/accept", "/reject"}[i/4]
			a, err := server.try("POST", links[i/2%2]+event, nil, anonymous())
			if err == nil {
				statuses[i] = a.status
			}
		})
	}
	wg.Wait()
	won := 0
	for _, s := range statuses {
		if s == 200 {
			won++
			continue
		}
		// 401: the account was there before this one asked; 403: it came between.
		require.Contains(t, []int{401, 403, 404}, s)
	}
	require.Equal(t, 1, won, "%v", statuses)
}
