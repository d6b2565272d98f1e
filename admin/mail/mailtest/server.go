// Package mailtest is a real SMTP server, for tests of what sends mails.
package mailtest

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mail is one that a server was given.
type Mail struct {
	From, To string
	Data     string // header and body
	TLS      bool   // it came encrypted
}

// Options are what a server does beside taking everything from everybody.
type Options struct {
	Certificate *tls.Certificate // nil: no TLS
	Implicit    bool             // TLS from the start, not by STARTTLS
	// Auth is asked who sends; nil: nobody needs to say.
	Auth func(user, password string) error
	// Rcpt and Data answer a recipient and a mail, from any goroutine; nil takes them.
	Rcpt func(to string) error
	Data func(Mail) error
}

// Serve runs a server on a free port of loopback until the test ends, and gives its
// address.
func Serve(tb testing.TB, o Options) string {
	tb.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{o: o, conn: c}, nil }))
	server.Domain, server.AllowInsecureAuth, server.EnableSMTPUTF8 = "localhost", true, true
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	address := l.Addr().String()
	if o.Certificate != nil {
		config := &tls.Config{Certificates: []tls.Certificate{*o.Certificate}, MinVersion: tls.VersionTLS12}
		if o.Implicit {
			l = tls.NewListener(l, config)
		} else {
			server.TLSConfig = config
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	tb.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return address
}

// session is one connection.
type session struct {
	o     Options
	conn  *smtp.Conn
	known bool // it has said who it is
	mail  Mail
}

// AuthMechanisms implements [smtp.AuthSession].
func (*session) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements [smtp.AuthSession].
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.o.Auth != nil {
			if err := s.o.Auth(user, password); err != nil {
				return err
			}
		}
		s.known = true
		return nil
	}), nil
}

// Reset implements [smtp.Session].
func (*session) Reset() {}

// Logout implements [smtp.Session].
func (*session) Logout() error { return nil }

// Mail implements [smtp.Session].
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.o.Auth != nil && !s.known {
		return smtp.ErrAuthRequired
	}
	s.mail = Mail{From: from}
	return nil
}

// Rcpt implements [smtp.Session].
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = to
	if s.o.Rcpt == nil {
		return nil
	}
	return s.o.Rcpt(to)
}

// Data implements [smtp.Session].
func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil || s.o.Data == nil {
		return err
	}
	s.mail.Data = string(data)
	_, s.mail.TLS = s.conn.TLSConnectionState()
	return s.o.Data(s.mail)
}
