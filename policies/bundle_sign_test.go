package policies_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// verification is what a stock OPA verifies key's bundles with.
func verification(t *testing.T, key *signing.Key) *bundle.VerificationConfig {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public().Public())
	require.NoError(t, err)
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{key.ID(): {Key: public, Algorithm: "ES256"}}, "", "", nil)
}

// TestSignedBundle: OPA and usher verify the same signature, and neither takes a bundle
// of which a file was altered, left out or added.
func TestSignedBundle(t *testing.T) {
	t.Parallel()
	key, err := signing.Generate()
	require.NoError(t, err)
	other, err := signing.Generate()
	require.NoError(t, err)
	verifierOf := func(keys ...*signing.PublicKey) *signing.Verifier {
		v, err := signing.NewVerifier(keys...)
		require.NoError(t, err)
		return v
	}
	verifier := verifierOf(other.Public(), key.Public())

	document := vectorDocument(t, "expired grants are absent")
	document.Account.ID = "z-owner"
	document.Roles[0].Name = "a \"quoted\" <role> & \U0001F600 \\ \u00e9"
	small := platformOf(t, document, policies.Document{
		Account: policies.Account{ID: "a-owner", Email: "a@example.com"}, Environments: []policies.Environment{{ID: "z-env", Name: "Z"}},
	})
	var archive bytes.Buffer
	require.NoError(t, policies.WriteSignedBundle(&archive, small, key))
	signed := archive.Bytes()

	_, err = bundle.NewReader(bytes.NewReader(signed)).WithBundleVerificationConfig(verification(t, key)).Read()
	require.NoError(t, err, "OPA hashes the data as usher does")
	_, err = policies.ReadSignedBundle(bytes.NewReader(signed), verifier)
	require.NoError(t, err)

	refused := func(why string, archive []byte, by *signing.Verifier) {
		t.Helper()
		_, err := policies.ReadSignedBundle(bytes.NewReader(archive), by)
		var refused *policies.SignatureError
		require.ErrorAs(t, err, &refused)
		require.Contains(t, refused.Reason, why)
	}
	refused("not known", signed, verifierOf(other.Public()))
	refused("there is none", writeBundle(t, small), verifier)
	for name, change := range map[string]func(map[string][]byte){
		"usher/authz/levels.rego": func(files map[string][]byte) {
			files["/usher/authz/levels.rego"] = bytes.Replace(files["/usher/authz/levels.rego"], []byte("direct"), []byte("Direct"), 1)
		},
		"data.json": func(files map[string][]byte) {
			files["/data.json"] = bytes.Replace(files["/data.json"], []byte(`"active"`), []byte(`"pending"`), 1)
		},
		"usher/authz/roles.rego": func(files map[string][]byte) { delete(files, "/usher/authz/roles.rego") },
		"/usher/authz/more.rego": func(files map[string][]byte) { files["/usher/authz/more.rego"] = []byte("package usher.authz\n") },
		"ES256": func(files map[string][]byte) {
			files["/.signatures.json"] = []byte(`{"signatures":["eyJhbGciOiJub25lIn0.e30."]}`)
		},
		"of the key": func(files map[string][]byte) { // of another bundle's text
			head, rest, _ := strings.Cut(string(files["/.signatures.json"]), ".")
			payload, signature, _ := strings.Cut(rest, ".")
			files["/.signatures.json"] = []byte(head + "." + payload[:len(payload)-4] + "." + signature)
		},
	} {
		files := unpack(t, signed)
		change(files)
		altered := pack(t, files)
		refused(name, altered, verifier)
		_, err := bundle.NewReader(bytes.NewReader(altered)).WithBundleVerificationConfig(verification(t, key)).Read()
		require.Error(t, err, name)
	}
}

// Worlds of any shape are signed as OPA verifies them.
func TestSignedWorlds(t *testing.T) {
	t.Parallel()
	key, err := signing.Generate()
	require.NoError(t, err)
	for seed := range uint64(20) {
		var archive bytes.Buffer
		require.NoError(t, policies.WriteSignedBundle(&archive, someWorld(t, seed), key))
		_, err := bundle.NewReader(&archive).WithBundleVerificationConfig(verification(t, key)).Read()
		require.NoError(t, err, "seed %d", seed)
	}
}
