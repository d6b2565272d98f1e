package mail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	netmail "net/mail"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/mail"
)

func addresses(t *testing.T) mail.Addresses {
	t.Helper()
	a, err := mail.ParseAddresses("usher <usher@example.com>", "help@example.com")
	require.NoError(t, err)
	return a
}

// Whatever an account calls itself, it makes no header, no line of its own and no tag.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	templates, err := mail.LoadTemplates("")
	require.NoError(t, err)
	dir := t.TempDir()
	sender, err := mail.NewDirectory(dir, addresses(t))
	require.NoError(t, err)
	evil := "Eve\r\nBcc: all@example.com\r\n\r\nhttps://evil.example/invitations/x\u2028<script>\u202e\"<x@y>"
	for _, kind := range mail.Kinds {
		m, err := templates.Write(mail.Letter{
			Kind: kind, To: "mia@example.com", ToName: evil, Owner: evil, Member: evil, By: evil, Link: "https://usher.example/invitations/t",
			Ends: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Items: []mail.Item{{Name: evil, Roles: []string{evil}}},
		})
		require.NoError(t, err)
		require.NotContains(t, m.HTML, "<script>")
		require.NotContains(t, m.Subject, "\n")
		require.NotContains(t, "\n"+m.Text, "\nhttps://evil.example")
		m.ID = "usher-" + kind
		require.NoError(t, sender.Send(t.Context(), m))
		data, err := os.ReadFile(filepath.Join(dir, m.ID+".eml"))
		require.NoError(t, err)
		parsed, err := netmail.ReadMessage(strings.NewReader(string(data)))
		require.NoError(t, err)
		require.Empty(t, parsed.Header.Get("Bcc"))
		to, err := parsed.Header.AddressList("To")
		require.NoError(t, err)
		require.Len(t, to, 1)
		require.Equal(t, "mia@example.com", to[0].Address)
		require.Equal(t, "<help@example.com>", parsed.Header.Get("Reply-To"))
		require.Contains(t, "\n"+strings.ReplaceAll(string(data), "\r", ""), "\nhttps://usher.example/invitations/t\n")
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, len(mail.Kinds), "nothing unfinished is left")
}

func TestTemplatesOfTheOperator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("mail.txt", "Our own.\n\n{{.Link}}\n")
	templates, err := mail.LoadTemplates(dir)
	require.NoError(t, err)
	m, err := templates.Write(mail.Letter{Kind: "invited", By: "Ann", Owner: "Ann", Link: "https://usher.example/invitations/t"})
	require.NoError(t, err)
	require.Equal(t, "Our own.\n\nhttps://usher.example/invitations/t\n", m.Text)
	require.Equal(t, "Ann invites you to collaborate", m.Subject, "the others are the embedded ones")

	for _, wrong := range []string{"{{.Link", "{{.Nothing}}", "See {{.Link}}"} {
		write("mail.txt", wrong)
		_, err := mail.LoadTemplates(dir)
		require.Error(t, err, wrong)
	}
	_, err = mail.LoadTemplates(filepath.Join(dir, "none"))
	require.Error(t, err)
}

func TestURLsOfMailServers(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"smtp://mail.example.com", "smtp://u:p@mail.example.com:2525", "smtps://u:p@mail.example.com", "smtp://localhost:25?tls=none", "smtp://h?tls=opportunistic",
	} {
		_, err := mail.NewSMTP(good, addresses(t), nil)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"", "mail.example.com", "http://mail.example.com", "smtp://", "smtp://u:secret@h:x", "smtps://h?tls=none", "smtp://h?tls=maybe", "smtp://h/x"} {
		_, err := mail.NewSMTP(bad, addresses(t), nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "secret")
	}
}
