package admin_test

import (
	"context"
	"errors"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/jobs"
	"github.com/usher-authz/usher/admin/mail/mailtest"
	"github.com/usher-authz/usher/admin/store"
)

// mailbox is a mail server that keeps what it takes.
type mailbox struct {
	address string

	mu    sync.Mutex
	fails []error // of the next recipients; nil takes one
	mails []taken
}

type taken struct{ mailtest.Mail }

func newMailbox(tb testing.TB) *mailbox {
	tb.Helper()
	b := &mailbox{}
	b.address = mailtest.Serve(tb, mailtest.Options{Rcpt: b.recipient, Data: b.take})
	return b
}

func (b *mailbox) recipient(string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.fails) == 0 {
		return nil
	}
	err := b.fails[0]
	b.fails = b.fails[1:]
	return err
}

func (b *mailbox) take(m mailtest.Mail) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = append(b.mails, taken{m})
	return nil
}

func (b *mailbox) fail(errs ...error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails = errs
}

// await is the mail number n, from 0.
func (b *mailbox) await(tb testing.TB, n int) taken {
	tb.Helper()
	var m taken
	eventually(tb, time.Minute, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.mails) <= n {
			return false
		}
		m = b.mails[n]
		return true
	})
	return m
}

func (m taken) header(tb testing.TB, name string) string {
	tb.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(m.Data))
	require.NoError(tb, err)
	value, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get(name))
	require.NoError(tb, err)
	return value
}

var linkLine = regexp.MustCompile(`(?m)^https://usher\.example(/invitations/[A-Za-z0-9_-]{43})\r?$`)

// link is the path of the invitation in a mail, under /v1.
func (m taken) link(tb testing.TB) string {
	tb.Helper()
	found := linkLine.FindStringSubmatch(m.Data)
	require.NotNil(tb, found, m.Data)
	return "/v1" + found[1]
}

func mailing(b *mailbox) func(*admin.Options) {
	return func(o *admin.Options) {
		o.SMTPURL, o.MailFrom, o.PublicURL = "smtp://"+b.address+"?tls=none", "usher <usher@example.com>", "https://usher.example"
	}
}

// The whole life of a collaboration, as the mails tell it.
func TestMailsTellTheLife(t *testing.T) {
	t.Parallel()
	b := newMailbox(t)
	p := inviting(t, mailing(b))
	p.do("PUT", "/v1/accounts/own", m{"email": "own@example.com", "display_name": "Ünal & <Söhne>"}).want(200)
	p.account("mia")

	id := p.invite("mia@example.com")
	invited := b.await(t, 0)
	require.Equal(t, "mia@example.com", invited.To)
	require.Equal(t, "usher@example.com", invited.From)
	require.Equal(t, "Ünal & <Söhne> invites you to collaborate", invited.header(t, "Subject"))
	require.Contains(t, invited.Data, "- Shop: Viewer")
	require.Contains(t, invited.Data, "&lt;S=C3=B6hne&gt;", "names are escaped in HTML")
	old := invited.link(t)
	p.do("GET", old, nil, anonymous()).want(200)

	p.do("POST", "/v1/accounts/own/members/"+id+"/resend", nil).want(200)
	link := b.await(t, 1).link(t)
	p.do("GET", old, nil, anonymous()).want(404)
	p.do("POST", link+"/accept", nil, as("mia")).want(200)
	require.Equal(t, "own@example.com", b.await(t, 2).To)

	for i, step := range []struct{ event, as, to, subject string }{
		{"/accounts/own/members/ID/suspend", "own", "mia@example.com", "Ünal & <Söhne> suspended your access"},
		{"/accounts/own/members/ID/activate", "", "mia@example.com", "Ünal & <Söhne> activated your access"},
		{"/collaborations/ID/leave", "mia", "own@example.com", "Nia left Ünal & <Söhne>"},
		{"/accounts/own/members/ID/reinvite", "", "mia@example.com", "Ünal & <Söhne> invites you to collaborate"},
		{"/collaborations/ID/reject", "mia", "own@example.com", "Nia declined your invitation"},
	} {
		options := []option{}
		if step.as != "" {
			options = append(options, as(step.as))
		}
		p.do("POST", "/v1"+strings.ReplaceAll(step.event, "ID", id), nil, options...).want(200)
		told := b.await(t, 3+i)
		require.Equal(t, step.to, told.To, step.event)
		require.Equal(t, step.subject, told.header(t, "Subject"))
	}
	p.do("DELETE", "/v1/accounts/own/members/"+id, nil).want(204)
	require.Contains(t, b.await(t, 8).header(t, "Subject"), "ended")

	// What is refused and what is imported tells nobody.
	p.do("POST", "/v1/accounts/own/members/"+id+"/suspend", nil).want(409)
	document := p.do("GET", "/v1/accounts/own/export", nil).want(200).body
	p.do("POST", "/v1/import", "["+strings.Replace(string(document), `"members":[]`,
		`"members":[{"account":{"id":null,"email":"ida@example.com","display_name":""},"status":"pending","grants":[]}]`, 1)+"]").want(200)
	p.invite("last@example.com")
	require.Equal(t, "last@example.com", b.await(t, 9).To)
}

// A mail that fails is tried again; one that is refused for good is given up, and the
// operator sees it, and may retry it.
func TestMailsThatFail(t *testing.T) {
	t.Parallel()
	b := newMailbox(t)
	p := inviting(t, mailing(b))
	b.fail(&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Later"})
	p.invite("nia@example.com")
	require.Equal(t, "nia@example.com", b.await(t, 0).To, "tried again")

	b.fail(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such person"})
	p.invite("nobody@example.com")
	pool, err := store.NewPool(t.Context(), p.database, 2)
	require.NoError(t, err)
	defer pool.Close()
	operator, err := jobs.NewOperator(pool)
	require.NoError(t, err)
	var given jobs.Mail
	eventually(t, time.Minute, func() bool {
		given = jobs.Mail{}
		require.NoError(t, operator.List(t.Context(), func(m jobs.Mail) error {
			given = m
			return nil
		}))
		return given.State == "cancelled"
	})
	require.Equal(t, "invited", given.Kind)
	require.Equal(t, "own", given.Owner)
	require.Contains(t, given.Error, "No such person")
	require.Contains(t, string(p.do("GET", "/metrics", nil).body), `usher_jobs{state="cancelled"} 1`)
	require.NoError(t, operator.Retry(t.Context(), given.ID))
	require.Equal(t, "nobody@example.com", b.await(t, 1).To)
	require.ErrorIs(t, operator.Retry(t.Context(), given.ID+1000), jobs.ErrNoMail)
	require.ErrorIs(t, operator.Discard(t.Context(), given.ID+1000), jobs.ErrNoMail)
}

// Beyond a limit there is a 429 that says when to come back.
func TestInvitationLimitAnswer(t *testing.T) {
	t.Parallel()
	p := inviting(t, func(o *admin.Options) { o.InvitationsPerAddress = 2 })
	id := p.invite("nia@example.com")
	p.do("POST", "/v1/accounts/own/members/"+id+"/resend", nil).want(200)
	refused := p.do("POST", "/v1/accounts/own/members/"+id+"/resend", nil).want(429)
	seconds, err := strconv.Atoi(refused.header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 3600, seconds, 600)
	p.invite("ida@example.com")
}

// No secret of a link is in the database or in the log.
func TestLinksAreNowhereButInTheMail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := inviting(t, func(o *admin.Options) {
		o.MailDir, o.MailFrom, o.PublicURL = dir, "usher@example.com", "https://usher.example"
	})
	p.invite("nia@example.com")
	var data []byte
	eventually(t, time.Minute, func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		require.NoError(t, err)
		if len(files) == 0 {
			return false
		}
		data, err = os.ReadFile(files[0])
		require.NoError(t, err)
		return true
	})
	secret := strings.TrimPrefix(taken{mailtest.Mail{Data: string(data)}}.link(t), "/v1/invitations/")
	pool, err := store.NewPool(context.Background(), p.database, 2)
	require.NoError(t, err)
	defer pool.Close()
	for _, table := range []string{"river_job", "invitation_links", "collaborations", "changes", "revisions", "idempotency_keys"} {
		var found int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from "+table+" x where x::text like '%' || $1 || '%'", secret).Scan(&found))
		require.Zero(t, found, table)
	}
}

// Mails that were queued while no server ran are sent by the next.
func TestMailsSurviveARestart(t *testing.T) {
	t.Parallel()
	b := newMailbox(t)
	p := inviting(t, mailing(b))
	b.fail(errors.New("down"), errors.New("down"))
	p.invite("nia@example.com")
	eventually(t, time.Minute, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.fails) < 2
	})
	p.stop()
	p.run(mailing(b))
	require.Equal(t, "nia@example.com", b.await(t, 0).To)
}
