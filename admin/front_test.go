package admin_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/authz/feed"
)

// TestOverload: what finds no place is sent away at once, and probes never are.
func TestOverload(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *admin.Options) { o.MaxInFlight = 1 })
	p.account("own")
	body, more := io.Pipe()
	t.Cleanup(func() { _ = more.Close() })
	held := make(chan answer, 1)
	go func() {
		a, _ := p.try("PUT", "/v1/accounts/own/groups/g", body)
		held <- a
	}()
	_, err := more.Write([]byte(`{"name": `))
	require.NoError(t, err)
	eventually(t, 30*time.Second, func() bool {
		return strings.Contains(string(p.do("GET", "/metrics", nil).body), "\nusher_admin_requests_in_flight 1\n")
	})
	refused := p.do("PUT", "/v1/accounts/own/groups/h", m{"name": "h"}).want(503)
	require.Equal(t, "urn:usher:problem:nothing-changed", refused.text("type"))
	require.Equal(t, "1", refused.header.Get("Retry-After"))
	require.Equal(t, "urn:usher:problem:unavailable", p.do("GET", "/v1/accounts/own", nil).want(503).text("type"))
	require.Equal(t, 200, p.do("GET", "/health", nil).status)
	require.Equal(t, 200, p.do("GET", "/ready", nil).status)
	_, err = more.Write([]byte(`"g"}`))
	require.NoError(t, err)
	require.NoError(t, more.Close())
	require.Equal(t, 201, (<-held).status)
	p.do("GET", "/v1/accounts/own/groups/g", nil).want(200)
}

// TestSlowBody: a body that does not come is given up.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *admin.Options) { o.RequestTimeout = time.Second })
	p.account("own")
	conn, err := net.Dial("tcp", p.server.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(conn, "PUT /v1/accounts/own/groups/g HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", p.token)
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, "HTTP/1.1 408 "), line)
	p.do("GET", "/v1/accounts/own/groups/g", nil).want(404)
}

// TestStreamsOutliveRequests: what bounds a request ends no stream, neither events nor
// the feed.
func TestStreamsOutliveRequests(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	p := start(t, func(o *admin.Options) { o.RequestTimeout = limit })
	changes := p.follow(t, "/v1/events")
	changes.next("ready")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL()+feed.StreamPath, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+p.token)
	response, err := (&http.Client{Transport: p.client.Transport}).Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	begun := time.Now()
	for lines := bufio.NewReader(response.Body); time.Since(begun) < limit+time.Second; {
		_, err := lines.ReadString('\n')
		require.NoError(t, err)
	}
	select {
	case _, open := <-changes.come:
		require.True(t, open, "the stream of events ended")
	default: // nothing has happened
	}
}

// TestHeaders: a header over the limit is refused, and one that is odd is no
// panic.
func TestHeaders(t *testing.T) {
	t.Parallel()
	p := start(t)
	big := p.do("GET", "/v1/policies", nil, with("X-Long", strings.Repeat("x", 100<<10)))
	require.Equal(t, 431, big.status)
	for _, name := range []string{"X-Request-ID", "Usher-Act-As", "If-Match", "Idempotency-Key", "Usher-Min-Revision", "Authorization", "Content-Type", "Accept"} {
		for _, value := range []string{"", "\xff\xfe", "\"", "\"\"", "*", strings.Repeat("x", 10_000), "1e3", "a, b"} {
			for _, method := range []string{"GET", "POST", "PUT"} {
				a := p.do(method, "/v1/accounts/own/roles", m{}, with(name, value))
				require.Less(t, a.status, 500, "%s %s: %q", method, name, value)
			}
		}
	}
}

// TestNoWait: a server that waits for no revision still answers what it has, and
// its own writes.
func TestNoWait(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *admin.Options) { o.MinRevisionWait = -1 })
	a := p.do("POST", "/v1/import", small("own", "mia")).want(200)
	p.do("GET", "/v1/accounts/own/resources/environment/own-e/collaborators", nil).want(200)
	p.do("GET", "/v1/accounts/own", nil, with("Usher-Min-Revision", a.revision().String())).want(200)
	begun := time.Now()
	p.do("GET", "/v1/accounts/own", nil, with("Usher-Min-Revision", (a.revision()+1).String())).want(503)
	require.Less(t, time.Since(begun), time.Second)
	require.Equal(t, 200, p.do("GET", "/v1/bundles/usher.tar.gz", nil).status)
}
