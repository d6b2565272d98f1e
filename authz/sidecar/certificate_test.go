package sidecar_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/sidecar"
)

// certify writes a certificate for loopback, with its key, and returns it.
func certify(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "usher"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	write(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

// TestTLS: a certificate in files, HTTP/2 on it, and a new one without a restart; a
// broken one leaves the last good one in force.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b"), bundleOf(t, 1, company(t)))
	roots := x509.NewCertPool()
	roots.AddCert(certify(t, dir, 1))
	s := start(t, sidecar.Options{
		Bundle: filepath.Join(dir, "b"), Listen: "127.0.0.1:0",
		TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem"),
	})
	require.Contains(t, s.URL(), "https://")
	serial := func() int64 {
		dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		connection, err := dialer.DialContext(t.Context(), "tcp", s.Addr().String())
		if err != nil {
			return 0
		}
		defer connection.Close()
		return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	require.Equal(t, int64(1), serial())
	caller := call(t, s.URL(), &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true})
	_, got := caller.view(t)
	require.True(t, got.Decision)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/health", http.NoBody)
	require.NoError(t, err)
	response, err := caller.http.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 2, response.ProtoMajor)

	roots.AddCert(certify(t, dir, 2))
	eventually(t, func() bool { return serial() == 2 }, "the new certificate is served")
	write(t, filepath.Join(dir, "cert.pem"), []byte("no certificate"))
	require.Never(t, func() bool { return serial() != 2 }, 1200*time.Millisecond, 100*time.Millisecond)
	roots.AddCert(certify(t, dir, 3))
	eventually(t, func() bool { return serial() == 3 }, "the next certificate is served")

	_, err = sidecar.New(sidecar.Options{Bundle: "b", Listen: "127.0.0.1:0", TLSCert: filepath.Join(dir, "b"), TLSKey: filepath.Join(dir, "key.pem")})
	require.ErrorContains(t, err, "read the TLS certificate")
}
