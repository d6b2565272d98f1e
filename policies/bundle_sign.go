package policies

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/gzip"

	"github.com/usher-authz/usher/policies/signing"
)

// bundleSignatures is the file with the signature of a bundle, as OPA has it: a JWT
// with the hash of every other file.
//
// OPA hashes a file as its bytes, but .manifest and data.json as what they mean: the
// JSON without white space, names in order, escaped as encoding/json does. That is how
// [WriteBundle] writes them, so that their hash is that of their bytes.
const bundleSignatures = "/.signatures.json"

// bundleHash is the only hash that is signed here.
const bundleHash = "SHA-256"

type signatures struct {
	Signatures []string `json:"signatures"`
}

// signedFiles is the text of the JWT. OPA knows more names, which are passed over.
type signedFiles struct {
	Files []signedFile `json:"files"`
}

type signedFile struct {
	Name      string `json:"name"` // without the first slash
	Hash      string `json:"hash"`
	Algorithm string `json:"algorithm"`
}

// SignatureError says that a bundle is not what a known key signed. Find it with
// errors.As.
type SignatureError struct{ Reason string }

func (e *SignatureError) Error() string { return "the signature of the bundle: " + e.Reason }

// fileSums are the hashes of a bundle's files, by their names.
type fileSums map[string]hash.Hash

// of is where what is written is hashed for the named file.
func (s fileSums) of(name string) io.Writer {
	h := sha256.New()
	s[name] = h
	return h
}

// sign is .signatures.json for these files.
func (s fileSums) sign(key *signing.Key) ([]byte, error) {
	var files signedFiles
	for _, name := range slices.Sorted(maps.Keys(s)) {
		files.Files = append(files.Files, signedFile{strings.TrimPrefix(name, "/"), hex.EncodeToString(s[name].Sum(nil)), bundleHash})
	}
	payload, err := json.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("encode what is signed of the bundle: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key.Private(), KeyID: key.ID()},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("sign the bundle: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign the bundle: %w", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return nil, fmt.Errorf("sign the bundle: %w", err)
	}
	return json.Marshal(signatures{[]string{token}})
}

// verify holds the files against the signature, which must be a known key's.
func (s fileSums) verify(text []byte, by *signing.Verifier) error {
	if text == nil {
		return &SignatureError{"there is none"}
	}
	var all signatures
	if err := DecodeStrict(text, &all); err != nil || len(all.Signatures) != 1 {
		return &SignatureError{bundleSignatures + " must have exactly one"}
	}
	token, err := jose.ParseSignedCompact(all.Signatures[0], []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(token.Signatures) != 1 {
		return &SignatureError{"it is no JWT that ES256 signed"}
	}
	id := token.Signatures[0].Header.KeyID
	key, ok := by.Key(id)
	if !ok {
		return &SignatureError{fmt.Sprintf("the key %q is not known here", Shorten(id))}
	}
	payload, err := token.Verify(key.Public())
	if err != nil {
		return &SignatureError{"it is not of the key " + id}
	}
	var files signedFiles
	if err := json.Unmarshal(payload, &files); err != nil {
		return &SignatureError{"what is signed is not understood"}
	}
	for _, f := range files.Files {
		sum, ok := s["/"+f.Name]
		if !ok || f.Algorithm != bundleHash || f.Hash != hex.EncodeToString(sum.Sum(nil)) {
			return &SignatureError{fmt.Sprintf("%s is missing, or not what was signed", Shorten(f.Name))}
		}
		delete(s, "/"+f.Name)
	}
	if len(s) > 0 {
		return &SignatureError{Shorten(slices.Sorted(maps.Keys(s))[0]) + " was not signed"}
	}
	return nil
}

// hashTo writes the text of d to w: it is kept compressed.
func (d dataParts) hashTo(w io.Writer) error {
	for _, p := range d {
		zr, err := gzip.NewReader(bytes.NewReader(p.compressed.Bytes()))
		if err == nil {
			_, err = io.Copy(w, zr)
		}
		if err != nil {
			return fmt.Errorf("read the data of the bundle again: %w", err)
		}
	}
	return nil
}
