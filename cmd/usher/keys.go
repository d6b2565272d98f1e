package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/usher-authz/usher/policies/signing"
)

type keysCommand struct {
	Create keysCreateCommand `cmd:"" help:"Make a key pair that signs feed and bundles."`
}

type keysCreateCommand struct {
	File string `arg:"" help:"Where the private key goes; the public one goes to FILE.pub." placeholder:"FILE"`
}

// Help is shown by --help below the options.
func (*keysCreateCommand) Help() string {
	return "ES256, in PEM. The private key is for usher admin (--signing-key-file), the public one for those who verify. " +
		"No file is ever replaced."
}

// Run writes the public key first: a private key without it would be of no use.
func (c *keysCreateCommand) Run(_ context.Context, p *Process) error {
	key, err := signing.Generate()
	if err != nil {
		return err
	}
	private, err := key.PEM()
	if err != nil {
		return err
	}
	public, err := key.Public().PEM()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.File); err == nil {
		return fmt.Errorf("%s is there already: remove it, or name another file", c.File)
	}
	if err := createFile(c.File+".pub", public, 0o644); err != nil {
		return err
	}
	if err := createFile(c.File, private, 0o600); err != nil {
		return errors.Join(err, os.Remove(c.File+".pub"))
	}
	_, err = fmt.Fprintf(p.Stdout, "key %s: %s, %s.pub\n", key.ID(), c.File, c.File)
	return err
}

// createFile writes a new file, or leaves none.
func createFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: remove it, or name another file", path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", path, err), os.Remove(path))
	}
	return nil
}
