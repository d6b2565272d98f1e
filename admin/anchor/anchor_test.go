package anchor_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/anchor"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

func TestAnchors(t *testing.T) {
	t.Parallel()
	key, err := signing.Generate()
	require.NoError(t, err)
	signer, err := signing.NewSigner(key)
	require.NoError(t, err)
	heads := []store.Header{
		{Platform: "p", Revision: 7, Hash: policies.Hash{1}, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)},
		{Platform: "p", Revision: 9, Hash: policies.Hash{2}, Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)},
	}
	var file bytes.Buffer
	for _, h := range heads {
		require.NoError(t, anchor.Write(&file, h, signer))
	}
	text := file.String()
	read, err := anchor.Read(strings.NewReader(text), signer.Verifier())
	require.NoError(t, err)
	require.Equal(t, heads, read)

	other, err := signing.Generate()
	require.NoError(t, err)
	stranger, err := signing.NewSigner(other)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		text string
		by   *signing.Verifier
		says string
	}{
		"another revision": {strings.Replace(text, `"revision":9`, `"revision":8`, 1), signer.Verifier(), "line 2: the signature"},
		"another time":     {strings.Replace(text, `03:04:05`, `03:04:04`, 1), signer.Verifier(), "line 1: the signature"},
		"another key":      {text, stranger.Verifier(), "line 1: no signature"},
		"no signature":     {`{"head":{"platform":"p","revision":1,"hash":"` + strings.Repeat("0", 64) + `","time":"2026-01-02T03:04:05Z"}}`, signer.Verifier(), "no signature"},
		"no anchor":        {"\n", signer.Verifier(), "no anchor"},
		"something else":   {"<html>", signer.Verifier(), "line 1: it is no anchor"},
		"no key":           {text, nil, "no key"},
	} {
		_, err := anchor.Read(strings.NewReader(c.text), c.by)
		require.ErrorContains(t, err, c.says, name)
	}
}
