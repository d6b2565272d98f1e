package admin_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/store"
)

// transitions is domain.md's table, Life of a collaboration: what each event makes of
// each state; what is missing is refused.
var transitions = map[string]map[string]string{
	"invite":   {"left": "pending", "rejected": "pending", "removed": "pending", "expired": "pending"},
	"reinvite": {"left": "pending", "rejected": "pending", "removed": "pending", "expired": "pending"},
	"resend":   {"pending": "pending"},
	"accept":   {"pending": "active"},
	"reject":   {"pending": "rejected"},
	"suspend":  {"active": "suspended"},
	"activate": {"suspended": "active"},
	"leave":    {"active": "left", "suspended": "left"},
	"remove": {
		"pending": "removed", "active": "removed", "suspended": "removed", "left": "removed", "rejected": "removed", "expired": "removed",
		"removed": "removed",
	},
}

// paths to each state, by events; expired is reached by the clock.
var pathTo = map[string][]string{
	"expired": nil, "pending": nil, "active": {"accept"}, "suspended": {"accept", "suspend"}, "left": {"accept", "leave"},
	"rejected": {"reject"}, "removed": {"accept", "remove"},
}

// life is one collaboration of own.
type life struct {
	*platform

	id, member string
}

// try makes an event happen, as an account.
func (l *life) event(event, account string) answer {
	l.t.Helper()
	switch event {
	case "invite":
		return l.do("POST", "/v1/accounts/own/members", m{"email": l.member + "@example.com"}, as(account))
	case "remove":
		return l.do("DELETE", "/v1/accounts/own/members/"+l.id, nil, as(account))
	case "accept", "reject", "leave":
		return l.do("POST", "/v1/collaborations/"+l.id+"/"+event, nil, as(account))
	}
	return l.do("POST", "/v1/accounts/own/members/"+l.id+"/"+event, nil, as(account))
}

// by is the account whose event it is, and notBy are those who try in vain.
func (l *life) by(event string) (by string, notBy []string) {
	if slices.Contains([]string{"accept", "reject", "leave"}, event) {
		return l.member, []string{"own", "eve"}
	}
	return "own", []string{l.member, "eve"}
}

func (l *life) status() string {
	l.t.Helper()
	return l.do("GET", "/v1/accounts/own/members/"+l.id, nil).want(200).text("status")
}

// Every event in every state, by whom it is and by whom it is not, over REST: the state
// that follows or a conflict that names both; what changed is what is allowed from that
// revision on; and what a re-invite restores.
func TestEveryEventInEveryState(t *testing.T) {
	t.Parallel()
	clock := &atomic.Int64{}
	now := func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	p := inviting(t, func(o *admin.Options) { o.Clock, o.InvitationsPerOwner = now, -1 })
	p.account("eve")
	lives := map[[2]string]*life{}
	for _, state := range []string{"expired", "pending", "active", "suspended", "left", "rejected", "removed"} {
		for event := range transitions {
			account := state + "-" + event
			p.account(account)
			id := p.do("POST", "/v1/accounts/own/members", m{
				"email": account + "@example.com", "grants": []any{grant("environment", "e", "viewer")},
			}).want(201).text("id")
			l := &life{p, id, account}
			lives[[2]string{state, event}] = l
			for _, step := range pathTo[state] {
				by, _ := l.by(step)
				require.Less(t, l.event(step, by).status, 300)
			}
		}
		if state == "expired" { // the others are made after
			clock.Store(int64(store.DefaultInvitationTTL))
			s, err := store.Open(context.Background(), store.Options{URL: p.database, Clock: now})
			require.NoError(t, err)
			defer s.Close()
			ended, err := s.ExpireInvitations(t.Context())
			require.NoError(t, err)
			require.LessOrEqual(t, ended, len(transitions)) // the server may have been first
		}
	}
	for key, l := range lives {
		state, event := key[0], key[1]
		name := event + " when " + state
		require.Equal(t, state, l.status(), name)
		by, notBy := l.by(event)
		for _, account := range notBy {
			a := l.event(event, account)
			// A member who invites its own address may be told no more than that it may not.
			require.Contains(t, []int{403, 404}, a.status, "%s by %s: %s", name, account, a.body)
			require.Equal(t, state, l.status(), "%s by %s", name, account)
		}
		next, allowed := transitions[event][state]
		a := l.event(event, by)
		if !allowed {
			a.want(409)
			require.Equal(t, state, a.text("state"), name)
			require.Equal(t, strings.TrimPrefix(event, "re"), strings.TrimPrefix(a.text("event"), "re"), name)
			next = state
		} else {
			require.Less(t, a.status, 300, "%s: %s", name, a.body)
		}
		require.Equal(t, next, l.status(), name)
		c := p.check(l.member, viewAction, "environment", "e", a.revision())
		require.Equal(t, next == "active", c.get("decision"), "%s: %s", name, c.body)
		if next != "active" {
			require.Equal(t, "collaboration_"+next, c.text("context.reason"), name)
		}
		if next == "pending" && state != "pending" {
			accepted := l.event("accept", l.member).want(200)
			c := p.check(l.member, viewAction, "environment", "e", accepted.revision())
			require.Equal(t, state != "removed", c.get("decision"), "%s, then accepted: %s", name, c.body)
		}
	}
}

// Two events at the same moment, by two servers: as one after the other. The loser is
// told of the conflict, and the audit has what was done and nothing else.
func TestTwoEventsAtOnce(t *testing.T) {
	t.Parallel()
	p := inviting(t)
	q := startOn(t, p.database)
	for name, c := range map[string]struct {
		a, b string // events; email is a change of the address
		path []string
		lost []int // what the loser may be answered
		both bool  // both may win, one after the other
	}{
		"two accepts":                     {a: "accept", b: "accept", lost: []int{409}},
		"two invitations to one address":  {a: "invite", b: "invite", path: []string{"accept", "leave"}, lost: []int{409}},
		"accept against remove":           {a: "accept", b: "remove", lost: []int{409}, both: true},
		"accept against reject":           {a: "accept", b: "reject", lost: []int{409}},
		"suspend against leave":           {a: "suspend", b: "leave", path: []string{"accept"}, lost: []int{409}, both: true},
		"a change of email and an accept": {a: "email", b: "accept", lost: []int{404}, both: true},
	} {
		account := "m-" + strings.ReplaceAll(name, " ", "-")
		p.account(account)
		l := &life{p, p.do("POST", "/v1/accounts/own/members", m{"email": account + "@example.com"}).want(201).text("id"), account}
		for _, step := range c.path {
			by, _ := l.by(step)
			require.Less(t, l.event(step, by).status, 300, name)
		}
		entries := func() int {
			return p.do("GET", "/v1/audit?kind=member&id="+l.id+"&limit=1000", nil, with("Usher-Min-Revision", "0")).want(200).len("items")
		}
		before := entries()
		answers := make([]answer, 2)
		var wg sync.WaitGroup
		for i, event := range []string{c.a, c.b} {
			at := &life{[]*platform{p, q}[i], l.id, account}
			wg.Go(func() {
				if event == "email" {
					answers[i] = at.do("PUT", "/v1/accounts/"+account, m{"email": account + "@elsewhere.example"})
					return
				}
				by, _ := at.by(event)
				answers[i] = at.event(event, by)
			})
		}
		wg.Wait()
		won := 0
		for _, a := range answers {
			if a.status < 300 {
				won++
				continue
			}
			require.Contains(t, c.lost, a.status, "%s: %s %s", name, a.what, a.body)
		}
		require.True(t, won == 1 || c.both && won == 2, "%s: %d won", name, won)
		require.Equal(t, before+won, entries(), "%s: the audit has each that won", name)
	}
}
