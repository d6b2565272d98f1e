package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
)

// samples is where the configurations stand that the docs show: what is shown is
// what is tested.
var samples = filepath.Join("..", "..", "docs", "proxies")

// proxied is a service behind a real proxy that asks usher.
type proxied struct {
	address string
	usher   *httptest.Server
}

// behind starts the proxy that start makes of the samples, with the addresses in them
// replaced, and a service behind it that says who asks it.
func behind(t *testing.T, start func(dir string, sample func(name string) string) *exec.Cmd) proxied {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s by %s", r.Method, r.RequestURI, r.Header.Get("Usher-Subject")) //nolint:gosec // nobody shows it as a page
	}))
	t.Cleanup(service.Close)
	mapping, err := os.ReadFile(filepath.Join(samples, "routes.yaml"))
	require.NoError(t, err)
	parsed, err := routes.Parse(mapping)
	require.NoError(t, err)
	engine := newEngine(t, newState(t, company(t)), now)
	api, err := server.New(server.Options{
		Decider: engine, Searcher: engine, Routes: parsed, Tokens: server.StateTokens(engine.State), Clock: engine.Now,
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	require.NoError(t, api.Mount(mux, server.Listener{}))
	usher := httptest.NewServer(mux)
	t.Cleanup(usher.Close)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	dir := t.TempDir()
	command := start(dir, func(name string) string {
		text, err := os.ReadFile(filepath.Join(samples, name))
		require.NoError(t, err)
		return strings.NewReplacer(
			"127.0.0.1:8000", address, "127.0.0.1:8181", usher.Listener.Addr().String(), "127.0.0.1:3000", service.Listener.Addr().String(),
		).Replace(string(text))
	})
	command.Dir = dir
	command.Env = append(command.Env, "HOME="+dir, "PATH="+os.Getenv("PATH"), "USHER_TOKEN="+checksToken)
	command.Stdout, command.Stderr = t.Output(), t.Output()
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond, "the proxy does not listen")
	return proxied{address, usher}
}

// program is where a proxy is: Debian has some in a directory that is not on
// everybody's path.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return filepath.Join("/usr/sbin", name)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

const password = "open-sesame"

func startNginx(t *testing.T) func(string, func(string) string) *exec.Cmd {
	t.Helper()
	return func(dir string, sample func(string) string) *exec.Cmd {
		write(t, dir, "passwords", "mia:{PLAIN}"+password+"\n")
		write(t, dir, "nginx.conf", `
			daemon off; master_process off; pid nginx.pid; error_log stderr;
			events {}
			http {
				access_log off;
				client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
				map "" $usher_token { default "`+checksToken+`"; }
				`+sample("nginx.conf")+`
			}`)
		return exec.CommandContext(t.Context(), program("nginx"), "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	}
}

func startCaddy(t *testing.T) func(string, func(string) string) *exec.Cmd {
	t.Helper()
	return func(dir string, sample func(string) string) *exec.Cmd {
		hash, err := exec.CommandContext(t.Context(), program("caddy"), "hash-password", "--plaintext", password).Output()
		require.NoError(t, err)
		write(t, dir, "Caddyfile", sample("Caddyfile"))
		command := exec.CommandContext(t.Context(), program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile")
		command.Env = []string{"PASSWORD_HASH=" + strings.TrimSpace(string(hash))}
		return command
	}
}

func startHAProxy(t *testing.T) func(string, func(string) string) *exec.Cmd {
	t.Helper()
	return func(dir string, sample func(string) string) *exec.Cmd {
		write(t, dir, "haproxy.cfg", sample("haproxy.cfg"))
		write(t, dir, "usher.lua", sample("usher.lua"))
		command := exec.CommandContext(t.Context(), program("haproxy"), "-db", "-f", "haproxy.cfg")
		command.Env = []string{"PASSWORD=" + password}
		return command
	}
}

// ask sends a request as it is written, whatever an HTTP client would make of it.
func (p proxied) ask(t *testing.T, method, target string, headers ...string) (int, string) {
	t.Helper()
	connection, err := net.Dial("tcp", p.address)
	require.NoError(t, err)
	defer connection.Close()
	require.NoError(t, connection.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n",
		method, target, p.address, strings.Join(append(headers, ""), "\r\n"))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// TestProxies: behind nginx, Caddy and HAProxy, configured as the docs show, just
// those requests arrive that usher allows, whatever clients send.
func TestProxies(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) func(string, func(string) string) *exec.Cmd{
		"nginx": startNginx, "caddy": startCaddy, "haproxy": startHAProxy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := behind(t, start(t))
			mia := "Authorization: Basic bWlhOm9wZW4tc2VzYW1l"

			status, body := p.ask(t, "GET", "/environments/e?verbose=1", mia)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "GET /environments/e?verbose=1 by mia", body)
			// Who asks is who logged in, and what is asked about is the request itself.
			for _, lie := range []string{
				"X-Account: olga", "Usher-Subject: olga", "X-Original-URI: /environments/e", "X-Original-Method: GET", "X-Forwarded-Uri: /environments/e",
				"X-Forwarded-Method: GET", "Usher-Min-Revision: 99", "Usher-Act-As: olga",
			} {
				status, body = p.ask(t, "GET", "/environments/e", mia, lie)
				require.Equal(t, http.StatusOK, status, lie)
				require.Equal(t, "GET /environments/e by mia", body, lie)
				for _, target := range []string{"/environments/f", "/environments/e/start", "/"} {
					status, _ = p.ask(t, "GET", target, mia, lie)
					require.Equal(t, http.StatusForbidden, status, "%s with %s", target, lie)
				}
			}
			status, body = p.ask(t, "POST", "/environments/e/start", mia)
			require.Equal(t, http.StatusForbidden, status)
			if name != "nginx" { // which has a page of its own
				require.Equal(t, "mia may not do environment.control.StartEnv on the environment e: action_not_granted.", body)
			}
			status, _ = p.ask(t, "GET", "/environments/e")
			require.Equal(t, http.StatusUnauthorized, status)
			for _, target := range []string{
				"//environments/e", "/environments//e", "/environments/e/", "/environments/f/../e", "/environments/f/%2e%2e/e", "/environments/e%2f",
				"/environments/e%2Fstart", "/environments/e%5c", "/environments/e%252f", "/environments/e;x=1", "/environments/E", "/Environments/e",
				"/environments/e%00", "/environments/%65%2e%2e", "/assets/../environments/f", "/assets/%2e%2e/environments/f", "/assets/..%2fenvironments/f",
			} {
				status, body = p.ask(t, "GET", target, mia)
				require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden}, status, "%s: %s", target, body)
			}
			p.usher.Close()
			status, _ = p.ask(t, "GET", "/environments/e", mia)
			require.GreaterOrEqual(t, status, http.StatusInternalServerError, "without an answer nothing is let through")
		})
	}
}
