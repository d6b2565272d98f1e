package mail_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/mail"
)

// post is a real SMTP server. It wants to know who sends, and takes what it is told to.
type post struct {
	address string

	mu    sync.Mutex
	rcpt  error // its answer to the next recipients
	data  error // its answer to the next mails
	plain bool  // a mail came without TLS
	open  bool  // it takes mails from everybody
	mails []string
}

type postSession struct {
	post *post
	conn *smtp.Conn
	to   string
	user string
}

func (*postSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "usher" || password != "p@ss/word" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (*postSession) Reset()        {}
func (*postSession) Logout() error { return nil }

func (s *postSession) Mail(string, *smtp.MailOptions) error {
	if s.user == "" && !s.post.open {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.to = to
	return s.post.rcpt
}

func (s *postSession) Data(r io.Reader) error {
	_, err := io.ReadAll(r)
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	if s.post.data != nil {
		return s.post.data
	}
	if _, secure := s.conn.TLSConnectionState(); !secure {
		s.post.plain = true
	}
	s.post.mails = append(s.post.mails, s.to)
	return err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// newPost serves with TLS from the start, or by STARTTLS if there is a certificate.
func newPost(t *testing.T, certificate *tls.Certificate, implicit bool) *post {
	t.Helper()
	p := &post{open: certificate == nil}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &postSession{post: p, conn: c}, nil }))
	server.Domain, server.AllowInsecureAuth = "localhost", true
	l := listen(t)
	p.address = l.Addr().String()
	if certificate != nil {
		config := &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
		if implicit {
			l = tls.NewListener(l, config)
		} else {
			server.TLSConfig = config
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return p
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
	l := listen(t)
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
