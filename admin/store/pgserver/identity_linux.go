package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity is whom PostgreSQL's programs run as; the zero value is ourselves.
type identity struct {
	other    bool
	uid, gid uint32
	caps     []uintptr // ambient capabilities
}

// serverIdentity picks the user: ourselves, or, for root, the owner of the data
// directory that is there, else postgres, else nobody.
func serverIdentity(dir string) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{}, nil
	}
	var who identity
	var stat syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "data"), &stat); err == nil && stat.Uid != 0 {
		who = identity{other: true, uid: stat.Uid, gid: stat.Gid}
	} else if who, err = lookUp("postgres", "nobody"); err != nil {
		return identity{}, err
	}
	closed := closedAbove(dir, who)
	if closed == "" {
		return who, nil
	}
	// Any of the two lets the child search directories that are closed to its user.
	// Containers often have only the second.
	for _, capability := range []uintptr{unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE} {
		if permitted(capability) {
			who.caps = []uintptr{capability}
			return who, nil
		}
	}
	return identity{}, fmt.Errorf("PostgreSQL does not run as root, and the user that it would run as (uid %d) may not enter %s: "+
		"choose a directory outside of it (--dir), or run as an ordinary user", who.uid, closed)
}

// lookUp is the first of the users that the machine has.
func lookUp(names ...string) (identity, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil || uid == 0 {
			continue
		}
		return identity{other: true, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return identity{}, fmt.Errorf("PostgreSQL does not run as root, and this machine has none of the users %s: make one (useradd --system postgres), "+
		"or run as an ordinary user", strings.Join(names, ", "))
}

// closedAbove is the first directory from the root down to dir that who may not
// search, or "".
func closedAbove(dir string, who identity) string {
	var closed string
	for d := dir; ; d = filepath.Dir(d) {
		var stat syscall.Stat_t
		if err := syscall.Stat(d, &stat); err == nil {
			bit := uint32(0o001)
			switch {
			case stat.Uid == who.uid:
				bit = 0o100
			case stat.Gid == who.gid:
				bit = 0o010
			}
			if stat.Mode&bit == 0 {
				closed = d
			}
		}
		if d == filepath.Dir(d) {
			return closed
		}
	}
}

// permitted tells whether our own process has a capability to hand on.
func permitted(capability uintptr) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && mask&(1<<capability) != 0
		}
	}
	return false
}

// attributes are how to start a program as who. One that is bound gets the fast
// shutdown's signal when the thread that started it ends.
func (who identity) attributes(bound bool) *syscall.SysProcAttr {
	// A process group of its own: a Ctrl-C at the terminal is for usher, which stops
	// its servers in order.
	attr := &syscall.SysProcAttr{Setpgid: true, AmbientCaps: who.caps}
	if bound {
		attr.Pdeathsig = syscall.SIGINT
	}
	if who.other {
		attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
	return attr
}

// own gives path to who.
func (who identity) own(path string) error {
	if !who.other {
		return nil
	}
	if err := os.Chown(path, int(who.uid), int(who.gid)); err != nil {
		return fmt.Errorf("%s cannot be given to the user that PostgreSQL runs as: %w", path, err)
	}
	return nil
}

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

// servesDir tells whether process pid is a postgres on the data directory dir. Its
// present directory is the data directory, by any name that it has.
func servesDir(pid int, dir string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err1 := os.Stat(filepath.Join(proc, "cwd"))
	data, err2 := os.Stat(dir)
	if errors.Join(err1, err2) != nil || !os.SameFile(cwd, data) {
		return false
	}
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && strings.HasPrefix(filepath.Base(exe), "postgres")
}

// zombie tells whether pid has ended and only waits for its parent to notice.
func zombie(pid int) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, rest, ok := strings.Cut(string(data), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}
