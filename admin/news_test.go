package admin_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
)

// telling is a platform whose clock moves by hand, with a window of an hour: a bundle
// ends when the test says so.
type telling struct {
	*platform

	box   *mailbox
	clock *atomic.Int64
	mails int // seen so far
}

func newTelling(t *testing.T, change ...func(*admin.Options)) *telling {
	t.Helper()
	box, clock := newMailbox(t), &atomic.Int64{}
	options := func(o *admin.Options) {
		mailing(box)(o)
		o.MailWindow = time.Hour
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	}
	return &telling{inviting(t, append([]func(*admin.Options){options}, change...)...), box, clock, 0}
}

// join makes account a member, and sees the mails of that.
func (p *telling) join(account string, grants ...any) string {
	p.t.Helper()
	p.account(account)
	if grants == nil {
		grants = []any{}
	}
	id := p.do("POST", "/v1/accounts/own/members", m{"email": account + "@example.com", "grants": grants}).want(201).text("id")
	p.next() // an invitation that is accepted already is not sent
	p.do("POST", "/v1/collaborations/"+id+"/accept", nil, as(account)).want(200)
	require.Equal(p.t, "own@example.com", p.next().To)
	return id
}

// bundle ends the window.
func (p *telling) bundle() { p.clock.Add(int64(2 * time.Hour)) }

// next is the next mail.
func (p *telling) next() taken {
	p.t.Helper()
	p.mails++
	return p.box.await(p.t, p.mails-1)
}

var itemLine = regexp.MustCompile(`(?m)^- .*$`)

// items are the lines of a mail's text that say what changed.
func (m taken) items() []string {
	lines := itemLine.FindAllString(m.Data, -1)
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// Edits within a window make one mail for each member whom they give or take anything,
// whatever was edited; it says what and by whom. What comes to nothing makes none.
func TestMailsTellWhatChanged(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	for _, id := range []string{"g", "h"} {
		p.do("PUT", "/v1/accounts/own/groups/"+id, m{"name": "Group " + id}).want(201)
	}
	p.do("PUT", "/v1/accounts/own/environments/f", m{"name": "Blog", "groups": []string{"g"}}).want(201)
	p.do("POST", "/v1/accounts/own/roles", m{"id": "dev", "name": "Developer", "policies": []string{"environment.start"}}).want(201)
	mia := p.join("mia", grant("environment", "e", "viewer"))
	ned := p.join("ned", grant("group", "g", "viewer"))
	members := "/v1/accounts/own/members/"

	// One mail for several grants; Ned's come to nothing; the invited see it by their link.
	p.do("PUT", members+mia+"/grants/environment/e", m{"roles": []string{"viewer", "dev"}}, as("own")).want(200)
	p.do("PUT", members+mia+"/grants/environment/f", m{"roles": []string{"dev"}}, as("own")).want(201)
	p.do("PUT", members+ned+"/grants/environment/f", m{"roles": []string{"dev"}}, as("own")).want(201)
	p.do("DELETE", members+ned+"/grants/environment/f", nil, as("own")).want(204)
	p.do("PUT", members+p.invite("zoe@example.com")+"/grants/groups/own", m{"roles": []string{"dev"}}).want(201)
	require.Equal(t, "zoe@example.com", p.next().To, "by her invitation")
	p.bundle()
	told := p.next()
	require.Equal(t, "mia@example.com", told.To)
	require.Equal(t, "OWN changed what is shared with you", told.header(t, "Subject"))
	require.Equal(t, []string{"- Shop: Developer, Viewer (was Viewer)", "- Blog: Developer (new)"}, told.items())

	// A role, and what stands in a group that is shared.
	p.do("PATCH", "/v1/accounts/own/roles/viewer", m{"policies": []string{view, "extra", "environment.stop"}}, as("own")).want(200)
	p.bundle()
	byTo := map[string]taken{}
	for range 2 {
		told = p.next()
		byTo[told.To] = told
	}
	require.Equal(t, []string{"- Shop: Developer, Viewer (allows more than before)"}, byTo["mia@example.com"].items())
	require.Equal(t, []string{"- Group g: Viewer (allows more than before)"}, byTo["ned@example.com"].items(), "and so in it")

	// A custom policy allows less; a group takes an environment out; all of it in one.
	p.do("PATCH", "/v1/accounts/own/policies/extra", m{"actions": []string{"own.Other"}}, as("own")).want(200)
	p.do("PUT", "/v1/accounts/own/environments/f", m{"name": "Blog", "groups": []string{"h"}}).want(200)
	p.do("DELETE", members+mia+"/grants/environment/e", nil, as("own")).want(204)
	p.bundle()
	for range 2 {
		told = p.next()
		byTo[told.To] = told
	}
	require.Equal(t, []string{"- Shop: not any more (was Developer, Viewer)"}, byTo["mia@example.com"].items())
	require.Equal(t, []string{"- Blog: not any more (was Viewer)"}, byTo["ned@example.com"].items())

	// What is suspended, imported, made below a grant, or refused tells nobody; and the
	// mails of states are as ever.
	p.do("PUT", members+mia+"/grants/environments/own", m{"roles": []string{"viewer"}}).want(201)
	p.do("POST", members+mia+"/suspend", nil).want(200)
	require.Contains(t, p.next().header(t, "Subject"), "suspended")
	p.do("PUT", members+ned+"/grants/environment/none", m{"roles": []string{"viewer"}}).want(422)
	document := p.do("GET", "/v1/accounts/own/export", nil).want(200).body
	p.do("POST", "/v1/import", "["+strings.Replace(string(document), `"roles":["viewer"]`, `"roles":["dev"]`, 1)+"]").want(200)
	p.bundle()
	for _, id := range []string{"new", "other"} {
		p.do("PUT", "/v1/accounts/own/environments/"+id, m{"name": "New", "groups": []string{"g"}}).want(201)
	}
	p.do("PUT", members+ned+"/grants/environment/new", m{"roles": []string{"dev"}}).want(201)
	p.bundle()
	told = p.next()
	require.Equal(t, "ned@example.com", told.To)
	require.Equal(t, []string{"- New: Developer (new)"}, told.items())
	require.Contains(t, told.header(t, "Subject"), "OWN changed", "the platform's services act for the owner")
}

// A mail names those who made a difference to its reader, and nobody else.
func TestMailsNameWhoChanged(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	managing := []string{"account.collaboration", "account.members", view, "extra"}
	p.do("POST", "/v1/accounts/own/roles", m{"id": "manager", "name": "Manager", "policies": managing}).want(201)
	p.join("max", grant("environment", "e", "manager"))
	mia, ned := p.join("mia"), p.join("ned")
	members := "/v1/accounts/own/members/"
	p.do("PUT", members+mia+"/grants/environment/e", m{"roles": []string{"viewer"}}, as("max")).want(201)
	p.do("PUT", members+ned+"/grants/environments/own", m{"roles": []string{"viewer"}}, as("own")).want(201)
	p.bundle()
	subjects := map[string]string{}
	for range 2 {
		told := p.next()
		subjects[told.To] = told.header(t, "Subject")
	}
	require.Equal(t, "MAX changed what OWN shares with you", subjects["mia@example.com"])
	require.Equal(t, "OWN changed what is shared with you", subjects["ned@example.com"])

	p.do("PUT", members+mia+"/grants/environment/e", m{"roles": []string{"viewer", "manager"}}, as("own")).want(200)
	p.do("PUT", members+mia+"/grants/groups/own", m{"roles": []string{"viewer"}}).want(201)
	p.bundle()
	require.Equal(t, "OWN changed what is shared with you", p.next().header(t, "Subject"))
}

// A change is told once, also where several servers look; a mail lists a part of many.
func TestNewsAreToldOnce(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	other := startOn(t, p.database, mailing(p.box), func(o *admin.Options) {
		o.MailWindow = time.Hour
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(p.clock.Load())) }
	})
	mia := p.join("mia")
	const many = 25
	grants := []any{}
	for i := range many {
		id := fmt.Sprintf("x%02d", i)
		p.do("PUT", "/v1/accounts/own/environments/"+id, m{"name": "Name of " + id}).want(201)
		grants = append(grants, grant("environment", id, "viewer"))
	}
	other.do("PUT", "/v1/accounts/own/members/"+mia+"/grants", m{"grants": grants}).want(200)
	p.bundle()
	told := p.next()
	require.Len(t, told.items(), 21)
	require.Equal(t, "- Name of x00: Viewer (new)", told.items()[0])
	require.Equal(t, "- and 5 more", told.items()[20])
	p.do("DELETE", "/v1/accounts/own/environments/x00", nil).want(204)
	p.bundle()
	require.Equal(t, []string{"- Name of x00: not any more (was Viewer)"}, p.next().items())
	p.box.mu.Lock()
	defer p.box.mu.Unlock()
	require.Len(t, p.box.mails, p.mails)
}
