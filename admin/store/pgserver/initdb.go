package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// initialize makes the data directory, or reads the password of one that is there.
func (s *Server) initialize(ctx context.Context, who identity) error {
	passwordPath := filepath.Join(s.o.Dir, "password")
	_, err := os.Stat(filepath.Join(s.dataDir(), "PG_VERSION"))
	switch {
	case err == nil:
		password, err := os.ReadFile(passwordPath)
		if err != nil {
			return fmt.Errorf("the data directory %s is there, but not its password: %w", s.dataDir(), err)
		}
		s.password = strings.TrimSpace(string(password))
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the data directory %s cannot be read: %w", s.dataDir(), err)
	}
	// initdb works beside the final place, and is renamed into it when whole: killed
	// in between, the next start begins again.
	fresh := filepath.Join(s.o.Dir, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("the half-made data directory of an earlier start cannot be removed: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("the directory %s is not writable: %w", s.o.Dir, err)
	}
	if err := who.own(fresh); err != nil {
		return err
	}
	s.password = rand.Text()
	if err := os.WriteFile(passwordPath, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("the directory %s is not writable: %w", s.o.Dir, err)
	}
	if err := s.runInitdb(ctx, who, fresh, passwordPath); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.dataDir()); err != nil {
		return fmt.Errorf("the data directory cannot be put in its place: %w", err)
	}
	return nil
}

func (s *Server) runInitdb(ctx context.Context, who identity, dir, passwordPath string) error {
	forInitdb := passwordPath + ".initdb"
	if err := os.WriteFile(forInitdb, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("the directory %s is not writable: %w", s.o.Dir, err)
	}
	defer func() { _ = os.Remove(forInitdb) }()
	if err := who.own(forInitdb); err != nil {
		return err
	}
	args := []string{
		"-D", dir, "-U", superuser, "--pwfile", forInitdb, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-instructions",
	}
	if s.o.Unsafe {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), args...) //nolint:gosec // our own arguments
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.SysProcAttr = who.attributes(false)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb could not make a database in %s: %w: %s", dir, err, lastLine(out.String()))
	}
	return nil
}

// lastLine is the last line of a program's output that says something of an error,
// or just the last.
func lastLine(out string) string {
	last := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "error:") || strings.Contains(line, "FATAL") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
