package main

import (
	"fmt"
	"os"

	"github.com/usher-authz/usher/policies/signing"
)

// signingKeys is the option of those who sign.
type signingKeys struct {
	SigningKeyFile []string `help:"The private key that signs feed and bundles (usher keys create makes one); with several, each signs the feed and the first the bundles, so that keys are replaced with overlap." placeholder:"FILE"`
}

// signer is nil without keys.
func (k signingKeys) signer() (*signing.Signer, error) {
	keys, err := readKeys("signing-key-file", k.SigningKeyFile, signing.ParseKey)
	if err != nil {
		return nil, err
	}
	return signing.NewSigner(keys...)
}

// verificationKeys is the option of those who verify.
type verificationKeys struct {
	VerificationKeyFile []string `help:"The public key that verifies what the admin server signs; with several, a signature by any of them is good." placeholder:"FILE"`
}

// verifier is nil without keys.
func (k verificationKeys) verifier() (*signing.Verifier, error) {
	keys, err := readKeys("verification-key-file", k.VerificationKeyFile, signing.ParsePublicKey)
	if err != nil {
		return nil, err
	}
	return signing.NewVerifier(keys...)
}

func readKeys[K any](flag string, paths []string, parse func([]byte) (K, error)) ([]K, error) {
	keys := make([]K, 0, len(paths))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read --%s: %w", flag, err)
		}
		key, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", flag, path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
