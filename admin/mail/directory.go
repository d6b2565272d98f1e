package mail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Directory writes mails to files, NAME.eml, for development.
type Directory struct {
	addresses Addresses
	dir       string
}

// NewDirectory makes the directory, if it is not there.
func NewDirectory(dir string, a Addresses) (*Directory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of mails: %w", err)
	}
	return &Directory{addresses: a, dir: dir}, nil
}

var _ Sender = (*Directory)(nil)

// Send implements [Sender]. A file that is there is whole, and one mail has one file,
// however often it is sent.
func (d *Directory) Send(_ context.Context, m Message) error {
	msg, err := d.addresses.compose(m)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(d.dir, ".mail-*")
	if err != nil {
		return fmt.Errorf("write a mail: %w", err)
	}
	_, err = msg.WriteTo(file)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(d.dir, m.ID+".eml"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write a mail: %w", err), os.Remove(file.Name()))
	}
	return nil
}
