package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// Time-outs of a connection. A body is small and answered from memory: who needs
// longer is slow on purpose, or gone.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 15 * time.Second // besides the wait for a revision
	idleTimeout       = 2 * time.Minute
)

// listener is one address that the sidecar serves on.
type listener struct {
	net.Listener
	server interface {
		Serve(on net.Listener) error // http.ErrServerClosed after Shutdown or Close
		Shutdown(ctx context.Context) error
		Close() error
	}
}

// listen opens every listener of the sidecar, or none.
func (s *Sidecar) listen(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close()
			}
			s.listeners = nil
		}
	}()
	if s.options.Listen != "" {
		if err := s.listenTCP(ctx); err != nil {
			return err
		}
	}
	if s.options.Socket != "" {
		on, err := s.openUnix(ctx, s.options.Socket)
		if err != nil {
			return err
		}
		if err := s.add(on, server.Listener{Auth: server.AuthNone}); err != nil {
			return err
		}
	}
	return s.listenEnvoy(ctx)
}

func openTCP(ctx context.Context, address, option string) (net.Listener, error) {
	var config net.ListenConfig
	on, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process has this port: stop it or give another %s: %w", address, option, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return on, nil
}

func (s *Sidecar) listenTCP(ctx context.Context) error {
	on, err := openTCP(ctx, s.options.Listen, "--listen")
	if err != nil {
		return err
	}
	s.address = on.Addr()
	url := "http://" + on.Addr().String()
	if s.certificate != nil {
		on, url = tls.NewListener(on, s.certificate.config()), "https://"+on.Addr().String()
	}
	if s.options.PublicURL != "" {
		url = s.options.PublicURL
	}
	return s.add(on, server.Listener{Auth: s.options.Auth, PublicURL: validOrNone(url)})
}

// validOrNone is url, unless it cannot be a public one: plain HTTP beyond
// loopback, which was asked for.
func validOrNone(url string) string {
	if (server.Listener{PublicURL: url}).Validate() != nil {
		return ""
	}
	return url
}

func (s *Sidecar) openUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	on, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the Unix socket %s: %w", path, err)
	}
	if err := os.Chmod(path, s.options.SocketMode); err != nil {
		_ = on.Close()
		return nil, fmt.Errorf("set the mode of the Unix socket %s: %w", path, err)
	}
	return on, nil
}

// removeStale removes the socket that a process left behind which was killed.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the Unix socket %s: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("listen on the Unix socket %s: there is a file of that name, which is no socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	connection, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = connection.Close()
		return fmt.Errorf("listen on the Unix socket %s: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on the Unix socket %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the Unix socket %s, which nobody listens on: %w", path, err)
	}
	return nil
}

// add makes the server of a listener.
func (s *Sidecar) add(on net.Listener, of server.Listener) error {
	mux := http.NewServeMux()
	if err := s.api.Mount(mux, of); err != nil {
		_ = on.Close()
		return err
	}
	s.health.Mount(mux)
	mux.Handle("/", server.RequestID(http.HandlerFunc(server.NotFound)))
	s.listeners = append(s.listeners, &listener{on, &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout + max(s.options.MinRevisionWait, 0),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    policies.MaxHeaderBytes,
		ErrorLog:          s.errorLog,
	}})
	return nil
}
