package sidecar

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateInterval is how often, at most, the files of a certificate are looked
// at: a handshake costs more than that, so that it need not be a goroutine.
const certificateInterval = time.Second

// certificate is a TLS certificate in two files, read anew when they change.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	changed [2]time.Time
	current *tls.Certificate
}

// TLSConfig is the configuration of a listener with the certificate in two PEM
// files, which are read anew when they change. The error is that of the first read.
func TLSConfig(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	c, err := newCertificate(certFile, keyFile, logger)
	if err != nil {
		return nil, err
	}
	return c.config(), nil
}

// newCertificate reads the certificate for the first time.
func newCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger, looked: time.Now()}
	changed, err := c.times()
	if err == nil {
		err = c.read(changed)
	}
	if err != nil {
		return nil, fmt.Errorf("read the TLS certificate: %w", err)
	}
	return c, nil
}

// config is the TLS configuration of a listener.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificateInterval {
		c.looked = now
		changed, err := c.times()
		if err == nil && changed != c.changed {
			err = c.read(changed)
		}
		if err != nil {
			// Half of a new pair may be there already: the next look finds both.
			c.logger.Error("the TLS certificate could not be read anew, the last good one stays in force", "error", err)
		}
	}
	return c.current, nil
}

func (c *certificate) times() (changed [2]time.Time, err error) {
	for i, name := range [...]string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return changed, err
		}
		changed[i] = info.ModTime()
	}
	return changed, nil
}

func (c *certificate) read(changed [2]time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.changed = &pair, changed
	return nil
}
