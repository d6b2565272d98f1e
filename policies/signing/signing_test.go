package signing_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies/signing"
)

func key(tb testing.TB) *signing.Key {
	tb.Helper()
	k, err := signing.Generate()
	require.NoError(tb, err)
	return k
}

func signer(tb testing.TB, keys ...*signing.Key) *signing.Signer {
	tb.Helper()
	s, err := signing.NewSigner(keys...)
	require.NoError(tb, err)
	return s
}

// Signer and verifier in every step of a rotation agree, in any order.
func TestRotationHasNoGap(t *testing.T) {
	t.Parallel()
	before, after := key(t), key(t)
	signers := []*signing.Signer{signer(t, before), signer(t, before, after), signer(t, after, before)}
	for _, s := range signers {
		signed, err := s.Sign(signing.Seal, []byte("text"))
		require.NoError(t, err)
		require.NoError(t, signer(t, before).Verifier().Verify(signing.Seal, []byte("text"), signed))
		require.NoError(t, signer(t, after, before).Verifier().Verify(signing.Seal, []byte("text"), signed))
	}
	signed, err := signer(t, after).Sign(signing.Seal, []byte("text"))
	require.NoError(t, err)
	var unknown *signing.UnknownKeyError
	require.ErrorAs(t, signer(t, before).Verifier().Verify(signing.Seal, []byte("text"), signed), &unknown)
	require.ErrorAs(t, signer(t, before).Verifier().Verify(signing.Seal, []byte("text"), nil), &unknown)
}

func TestNothingElsePassesForWhatWasSigned(t *testing.T) {
	t.Parallel()
	k := key(t)
	s := signer(t, k)
	v := s.Verifier()
	signed, err := s.Sign(signing.Seal, []byte("text"))
	require.NoError(t, err)
	other, err := s.Sign(signing.Seal, []byte("other"))
	require.NoError(t, err)
	var wrong *signing.SignatureError
	require.ErrorAs(t, v.Verify(signing.Seal, []byte("texT"), signed), &wrong)
	require.ErrorAs(t, v.Verify(signing.Heartbeat, []byte("text"), signed), &wrong, "for another purpose")
	require.ErrorAs(t, v.Verify(signing.Seal, []byte("text"), other), &wrong)
	for _, signature := range []string{
		"", "!", strings.Repeat("A", 86), signed[k.ID()] + "A", signed[k.ID()][:85], signed[k.ID()] + "=",
	} {
		require.ErrorAs(t, v.Verify(signing.Seal, []byte("text"), signing.Signatures{k.ID(): signature}), &wrong, signature)
	}
	require.False(t, k.Public().Verify(signing.Seal, []byte("text"), nil))
}

func TestKeysAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	k := key(t)
	private, err := k.PEM()
	require.NoError(t, err)
	public, err := k.Public().PEM()
	require.NoError(t, err)
	again, err := signing.ParseKey(private)
	require.NoError(t, err)
	require.Equal(t, k.ID(), again.ID())
	verify, err := signing.ParsePublicKey(public)
	require.NoError(t, err)
	require.Equal(t, k.ID(), verify.ID())
	signature, err := again.Sign(signing.Head, []byte("text"))
	require.NoError(t, err)
	require.True(t, verify.Verify(signing.Head, []byte("text"), signature))

	_, err = signing.ParseKey(public)
	require.ErrorContains(t, err, "private")
	_, err = signing.ParsePublicKey(private)
	require.ErrorContains(t, err, "stays with the admin server")
	_, err = signing.ParseKey([]byte("nothing"))
	require.ErrorContains(t, err, "PEM")
	_, err = signing.ParseKey(append(private, private...))
	require.ErrorContains(t, err, "more than one")
	_, err = signing.ParsePublicKey([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	require.Error(t, err)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v", k, k, k)} {
		require.NotContains(t, text, "PRIVATE")
		require.Less(t, len(text), 3*len(k.ID())+3)
	}
	_, err = signing.NewSigner(k, again)
	require.ErrorContains(t, err, "twice")
	_, err = signing.NewVerifier(verify, k.Public())
	require.ErrorContains(t, err, "twice")
}

func TestWithoutKeysNothingIsSignedAndAllIsTrusted(t *testing.T) {
	t.Parallel()
	s := signer(t)
	require.Nil(t, s)
	require.Nil(t, s.First())
	signed, err := s.Sign(signing.Seal, []byte("text"))
	require.NoError(t, err)
	require.Empty(t, signed)
	require.NoError(t, s.Verifier().Verify(signing.Seal, []byte("text"), nil))
}

func BenchmarkSign(b *testing.B) {
	s := signer(b, key(b))
	for b.Loop() {
		if _, err := s.Sign(signing.Seal, []byte("text")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := signer(b, key(b))
	signed, err := s.Sign(signing.Seal, []byte("text"))
	require.NoError(b, err)
	v := s.Verifier()
	for b.Loop() {
		if err := v.Verify(signing.Seal, []byte("text"), signed); err != nil {
			b.Fatal(err)
		}
	}
}
