//go:build unix && !linux

package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// identity is whom PostgreSQL's programs run as: here always ourselves.
type identity struct{}

func serverIdentity(string) (identity, error) {
	if os.Geteuid() == 0 {
		return identity{}, errors.New("PostgreSQL does not run as root: run as an ordinary user")
	}
	return identity{}, nil
}

func (identity) attributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func (identity) own(string) error { return nil }

// lockFile opens and locks path, until it is closed or the process ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the directory %s is not writable: %w", filepath.Dir(path), err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another process runs a PostgreSQL in %s: stop it, or choose another directory", filepath.Dir(path))
	}
	return f, nil
}

// servesDir trusts the pid file: there is no /proc to look in.
func servesDir(int, string) bool { return true }

func zombie(int) bool { return false }
