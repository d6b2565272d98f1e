package policies_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func TestTokenSecret(t *testing.T) {
	t.Parallel()
	secret, err := policies.NewTokenSecret(bytes.NewReader(bytes.Repeat([]byte{0xff}, 32)))
	require.NoError(t, err)
	require.Equal(t, "ush_"+strings.Repeat("_", 42)+"8", secret)
	require.True(t, policies.LooksLikeToken(secret))
	require.False(t, policies.LooksLikeToken("eyJhbGciOi.x.y"))
	require.False(t, policies.LooksLikeToken("ush_short"))
	// echo -n abc | sha256sum
	require.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", policies.HashToken("abc"))

	_, err = policies.NewTokenSecret(bytes.NewReader(make([]byte, 31)))
	require.ErrorContains(t, err, "read random bytes for a token")
	_, err = policies.NewTokenSecret(iotest.ErrReader(iotest.ErrTimeout))
	require.ErrorIs(t, err, iotest.ErrTimeout)
}
