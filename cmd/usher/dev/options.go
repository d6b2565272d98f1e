package dev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// The defaults of [Options].
const (
	DefaultDir           = ".usher"
	DefaultAdminListen   = "127.0.0.1:8080"
	DefaultSidecarListen = "127.0.0.1:8181"
)

// Options say where `usher dev` keeps its state and listens.
type Options struct {
	// Dir holds everything; made if it is not there.
	Dir string
	// AdminListen and SidecarListen are HOST:PORT on loopback; port 0 picks a free
	// one. The on-demand sidecar takes the port after SidecarListen's, or a free
	// one.
	AdminListen, SidecarListen string
	// SMTPURL is a mail server's; without it mails are written to Dir/mail.
	SMTPURL string
	// Guardrails is a directory of them, put in force at the start; without it those
	// that are in force stay.
	Guardrails string
	// Demo imports the demo company, once in the life of Dir.
	Demo bool
	// Out takes the lines of progress and what to try next. Logs go to Dir/*.log.
	Out io.Writer
	// Command is how a user calls this program, for what to try next.
	Command string
	// Version of this program, for the OpenAPI document.
	Version string
	// Clock; time.Now if nil.
	Clock func() time.Time
}

// validate fills in defaults and reports everything that is wrong.
func (o *Options) validate() error {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.AdminListen == "" {
		o.AdminListen = DefaultAdminListen
	}
	if o.SidecarListen == "" {
		o.SidecarListen = DefaultSidecarListen
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Command == "" {
		o.Command = "usher"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	err = errors.Join(checkListen("admin-listen", o.AdminListen), checkListen("sidecar-listen", o.SidecarListen))
	if err == nil && o.AdminListen == o.SidecarListen && portOf(o.AdminListen) != 0 {
		err = errors.New("--admin-listen and --sidecar-listen must differ")
	}
	o.Dir = dir
	return err
}

// checkListen refuses what is not HOST:PORT on loopback: all that listens here
// does so without TLS, and for one developer.
func checkListen(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--%s must be HOST:PORT, e.g. 127.0.0.1:8080, not %q", flag, address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("--%s must end in a port from 0 to 65535, not %q", flag, port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--%s must be on loopback, e.g. 127.0.0.1:%s, not %q", flag, port, host)
	}
	return nil
}

func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}
