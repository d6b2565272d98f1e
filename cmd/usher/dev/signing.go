package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/usher-authz/usher/policies/signing"
)

// signingFiles are the platform's key pair and where its halves stand.
type signingFiles struct {
	private, public string
	signer          *signing.Signer
}

// signingKey is the key pair in DIR/signing.pem and DIR/signing.pem.pub, made once.
func signingKey(dir string) (signingFiles, error) {
	files := signingFiles{private: filepath.Join(dir, "signing.pem")}
	files.public = files.private + ".pub"
	key, err := readSigningKey(files.private)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeSigningKey(files.private)
	}
	if err != nil {
		return files, fmt.Errorf("the signing key: %w", err)
	}
	public, err := key.Public().PEM()
	if err == nil {
		err = writeFile(files.public, public)
	}
	if err != nil {
		return files, fmt.Errorf("the verification key: %w", err)
	}
	files.signer, err = signing.NewSigner(key)
	return files, err
}

func readSigningKey(path string) (*signing.Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := signing.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func makeSigningKey(path string) (*signing.Key, error) {
	key, err := signing.Generate()
	if err != nil {
		return nil, err
	}
	data, err := key.PEM()
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, data)
}
