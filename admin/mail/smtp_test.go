package mail_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/mail"
	"github.com/usher-authz/usher/admin/mail/mailtest"
)

// post is a mail server that wants to know who sends, if it has a certificate, and takes
// what it is told to.
type post struct {
	address string

	mu    sync.Mutex
	rcpt  error // its answer to the next recipients
	data  error // its answer to the next mails
	plain bool  // a mail came without TLS
	mails []string
}

// newPost serves with TLS from the start, or by STARTTLS if there is a certificate.
func newPost(t *testing.T, certificate *tls.Certificate, implicit bool) *post {
	t.Helper()
	p := &post{}
	o := mailtest.Options{Certificate: certificate, Implicit: implicit, Rcpt: p.recipient, Data: p.take}
	if certificate != nil {
		o.Auth = func(user, password string) error {
			if user != "usher" || password != "p@ss/word" {
				return smtp.ErrAuthFailed
			}
			return nil
		}
	}
	p.address = mailtest.Serve(t, o)
	return p
}

func (p *post) recipient(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rcpt
}

func (p *post) take(m mailtest.Mail) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data != nil {
		return p.data
	}
	p.plain = p.plain || !m.TLS
	p.mails = append(p.mails, m.To)
	return nil
}

// certificate is one for 127.0.0.1, and what trusts it.
func certificate(t *testing.T) (*tls.Certificate, *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &s.TLS.Certificates[0], &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

const credentials = "usher:p%40ss%2Fword@"

func message() mail.Message {
	return mail.Message{ID: "usher-1", To: "mia@example.com", Subject: "Hello", Text: "Hello.\n", HTML: "<p>Hello.</p>"}
}

func send(t *testing.T, url string, config *tls.Config) error {
	t.Helper()
	sender, err := mail.NewSMTP(url, addresses(t), config)
	require.NoError(t, err)
	err = sender.Send(t.Context(), message())
	if err != nil {
		require.NotContains(t, err.Error(), "p@ss", "no error has the password")
	}
	return err
}

// By each kind of connection a mail arrives, or is not sent at all: never without TLS
// where the URL wants it, to a server that is not the one, or for who is not known.
func TestConnectionsToMailServers(t *testing.T) {
	t.Parallel()
	own, trust := certificate(t)
	plain, starttls, implicit := newPost(t, nil, false), newPost(t, own, false), newPost(t, own, true)
	for name, c := range map[string]struct {
		post   *post
		url    string // before the address
		tls    string // after it
		config *tls.Config
		fails  bool
	}{
		"STARTTLS":                         {post: starttls, url: "smtp://" + credentials, config: trust},
		"TLS from the start":               {post: implicit, url: "smtps://" + credentials, config: trust},
		"none, as asked":                   {post: plain, url: "smtp://", tls: "?tls=none"},
		"none, where none is offered":      {post: plain, url: "smtp://", tls: "?tls=opportunistic"},
		"STARTTLS that is not offered":     {post: plain, url: "smtp://" + credentials, fails: true},
		"a certificate that nobody trusts": {post: starttls, url: "smtp://" + credentials, fails: true},
		"the same, from the start":         {post: implicit, url: "smtps://" + credentials, fails: true},
		"a wrong password":                 {post: starttls, url: "smtp://usher:wrong@", config: trust, fails: true},
		"no password":                      {post: starttls, url: "smtp://", config: trust, fails: true},
		"a password that all could read":   {post: plain, url: "smtp://" + credentials, tls: "?tls=none", fails: true},
		"the wrong kind of TLS":            {post: plain, url: "smtps://" + credentials, config: trust, fails: true},
	} {
		before := len(c.post.mails)
		err := send(t, c.url+c.post.address+c.tls, c.config)
		if !c.fails {
			require.NoError(t, err, name)
			require.Len(t, c.post.mails, before+1, name)
			continue
		}
		require.Error(t, err, name)
		var refused *mail.RefusedError
		require.NotErrorAs(t, err, &refused, "%s is no fault of the address", name)
		require.Len(t, c.post.mails, before, name)
	}
	require.False(t, starttls.plain || implicit.plain)
}

// Only a recipient that is refused for good is given up; everything else is tried again.
func TestAnswersOfMailServers(t *testing.T) {
	t.Parallel()
	p := newPost(t, nil, false)
	answer := func(code int) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "As told"}
	}
	for _, c := range []struct {
		rcpt, data error
		refused    bool
	}{
		{rcpt: answer(450)}, {rcpt: answer(421)}, {rcpt: answer(550), refused: true}, {rcpt: answer(553), refused: true},
		{data: answer(452)}, {data: answer(554)},
	} {
		p.mu.Lock()
		p.rcpt, p.data = c.rcpt, c.data
		p.mu.Unlock()
		err := send(t, "smtp://"+p.address+"?tls=none", nil)
		require.Error(t, err)
		var refused *mail.RefusedError
		require.Equal(t, c.refused, errors.As(err, &refused), "%v", err)
	}
	require.Empty(t, p.mails)
}

// A server that takes a connection and says nothing holds nobody up.
func TestMailServerThatHangs(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			taken <- c
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	sender, err := mail.NewSMTP("smtp://"+l.Addr().String()+"?tls=none", addresses(t), nil)
	require.NoError(t, err)
	sender.Within(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.Error(t, sender.Send(ctx, message()))
	require.NoError(t, ctx.Err(), "the time-out ended it")
	require.NoError(t, (<-taken).Close())
}
