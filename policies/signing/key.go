package signing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// SignatureSize is the length of a signature: r and s, 32 bytes each, big-endian, as
// RFC 7518, 3.4 has them.
const SignatureSize = 64

const (
	coordinateSize = SignatureSize / 2
	keyIDBytes     = 16
)

// Key is a private key. It never shows itself in logs.
type Key struct {
	private *ecdsa.PrivateKey
	id      string
}

// Generate makes a new key.
func Generate() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) (*Key, error) {
	public, err := newPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Key{private, public.id}, nil
}

// ParseKey reads a private key in PEM, as PKCS #8 or SEC 1.
func ParseKey(text []byte) (*Key, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	var private any
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		return nil, errors.New("this is a public key: a signing key is private")
	default:
		return nil, fmt.Errorf("PEM of type %q is no private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key does not parse") // the cause may quote it
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not of the curve P-256: `usher keys create` makes one that is")
	}
	return newKey(key)
}

// ID names the key, and its public key, in what it signs: the beginning of the
// SHA-256 of the public key in DER, in hex.
func (k *Key) ID() string { return k.id }

// String is the id.
func (k *Key) String() string { return k.id }

// GoString is the id: a private key must not be printed by accident.
func (k *Key) GoString() string { return k.id }

// Private is the key itself, for libraries that sign.
func (k *Key) Private() *ecdsa.PrivateKey { return k.private }

// Public is the key that verifies.
func (k *Key) Public() *PublicKey { return &PublicKey{&k.private.PublicKey, k.id} }

// PEM is the private key as PKCS #8.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode the signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Sign signs text for a purpose.
func (k *Key) Sign(purpose Purpose, text []byte) ([]byte, error) {
	digest := purpose.digest(text)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign as %s: %w", purpose, err)
	}
	signature := make([]byte, SignatureSize)
	r.FillBytes(signature[:coordinateSize])
	s.FillBytes(signature[coordinateSize:])
	return signature, nil
}

// PublicKey verifies what its private key signed.
type PublicKey struct {
	public *ecdsa.PublicKey
	id     string
}

func newPublicKey(public *ecdsa.PublicKey) (*PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return &PublicKey{public, hex.EncodeToString(sum[:keyIDBytes])}, nil
}

// ParsePublicKey reads a public key in PEM, as PKIX.
func ParsePublicKey(text []byte) (*PublicKey, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("PEM of type %q is no public key: a private key stays with the admin server", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the public key does not parse: %w", err)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the public key is not of the curve P-256")
	}
	return newPublicKey(key)
}

// ID is that of the private key.
func (p *PublicKey) ID() string { return p.id }

// Public is the key itself, for libraries that verify.
func (p *PublicKey) Public() *ecdsa.PublicKey { return p.public }

// PEM is the key as PKIX, as `opa run --verification-key` reads it.
func (p *PublicKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(p.public)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Verify tells whether signature is the key's on text, for that purpose.
func (p *PublicKey) Verify(purpose Purpose, text, signature []byte) bool {
	if len(signature) != SignatureSize {
		return false
	}
	digest := purpose.digest(text)
	r := new(big.Int).SetBytes(signature[:coordinateSize])
	s := new(big.Int).SetBytes(signature[coordinateSize:])
	return ecdsa.Verify(p.public, digest[:], r, s)
}

func onlyBlock(text []byte) (*pem.Block, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("there is no PEM in it")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("there is more than one PEM block in it: a file has one key")
	}
	return block, nil
}
