package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// sendTimeout bounds each step with the mail server.
const sendTimeout = 30 * time.Second

// Addresses are those that a mail comes from, and that answers go to (nil: the same).
type Addresses struct {
	From    *netmail.Address
	ReplyTo *netmail.Address
}

// ParseAddresses reads addresses such as `usher <usher@example.com>`. An empty
// replyTo is none.
func ParseAddresses(from, replyTo string) (Addresses, error) {
	var a Addresses
	var err error
	if a.From, err = netmail.ParseAddress(from); err != nil {
		return a, fmt.Errorf("%q is not an address that mails can come from, such as usher@example.com", from)
	}
	if replyTo != "" {
		if a.ReplyTo, err = netmail.ParseAddress(replyTo); err != nil {
			return a, fmt.Errorf("%q is not an address that answers can go to", replyTo)
		}
	}
	return a, nil
}

// compose makes the mail. The text part is not encoded, so that the link stands in it
// as it is; names and the subject are encoded words (RFC 2047).
func (a Addresses) compose(m Message) (*gomail.Msg, error) {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(a.From)
	if a.ReplyTo != nil {
		msg.ReplyToMailAddress(a.ReplyTo)
	}
	to, err := netmail.ParseAddress("<" + m.To + ">")
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("%q is no address", m.To)}
	}
	to.Name = oneLine(m.ToName)
	msg.ToMailAddress(to)
	msg.Subject(oneLine(m.Subject))
	msg.SetDateWithValue(time.Now())
	_, domain, _ := strings.Cut(a.From.Address, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no automatic answers
	msg.SetBodyString(gomail.TypeTextPlain, m.Text, gomail.WithPartEncoding(gomail.NoEncoding))
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	return msg, nil
}

// SMTP sends by a mail server, one connection a mail.
type SMTP struct {
	addresses Addresses
	host      string
	options   []gomail.Option
}

// NewSMTP reads the URL of a mail server:
//
//	smtp://USER:PASSWORD@HOST:587     TLS by STARTTLS, or nothing is sent
//	smtps://USER:PASSWORD@HOST:465    TLS from the start
//
// ?tls=opportunistic takes TLS where the server offers it, ?tls=none does without. It
// connects to nothing yet. config may be nil. Errors do not quote the URL.
func NewSMTP(address string, a Addresses, config *tls.Config) (*SMTP, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("the mail server's URL is not smtp://HOST or smtps://HOST")
	}
	s := &SMTP{addresses: a, host: u.Hostname(), options: []gomail.Option{gomail.WithTimeout(sendTimeout)}}
	if config != nil {
		if config = config.Clone(); config.ServerName == "" {
			config.ServerName = s.host
		}
		s.options = append(s.options, gomail.WithTLSConfig(config))
	}
	policy := u.Query().Get("tls")
	switch {
	case u.Scheme == "smtps" && policy == "":
		s.options = append(s.options, gomail.WithSSL(), gomail.WithPort(gomail.DefaultPortSSL))
	case u.Scheme == "smtp" && policy == "":
		s.options = append(s.options, gomail.WithTLSPortPolicy(gomail.TLSMandatory))
	case u.Scheme == "smtp" && policy == "opportunistic":
		s.options = append(s.options, gomail.WithTLSPortPolicy(gomail.TLSOpportunistic))
	case u.Scheme == "smtp" && policy == "none":
		s.options = append(s.options, gomail.WithTLSPortPolicy(gomail.NoTLS))
	default:
		return nil, errors.New("the mail server's URL may end in ?tls=opportunistic or ?tls=none after smtp://HOST")
	}
	if u.Port() != "" {
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, errors.New("the mail server's port is not a number")
		}
		s.options = append(s.options, gomail.WithPort(port))
	}
	if user := u.User.Username(); user != "" {
		password, _ := u.User.Password()
		s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(user), gomail.WithPassword(password))
	}
	if _, err := gomail.NewClient(s.host, s.options...); err != nil {
		return nil, fmt.Errorf("the mail server's URL cannot be used: %w", err)
	}
	return s, nil
}

var _ Sender = (*SMTP)(nil)

// Send implements [Sender].
func (s *SMTP) Send(ctx context.Context, m Message) error {
	msg, err := s.addresses.compose(m)
	if err != nil {
		return err
	}
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return fmt.Errorf("prepare the mail server's client: %w", err)
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		var send *gomail.SendError
		if errors.As(err, &send) && send.Reason == gomail.ErrSMTPRcptTo && !send.IsTemp() && send.ErrorCode() >= 500 {
			return &RefusedError{err}
		}
		return fmt.Errorf("send a mail by %s: %w", s.host, err)
	}
	return nil
}
