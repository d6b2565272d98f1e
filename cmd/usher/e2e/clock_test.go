package e2e

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// wrongClock lets the clocks of two sidecars, one of each mode, be two hours behind the
// admin server's: by the heartbeats, which are sent through a relay that writes them anew.
// (The sidecars verify nothing, and trust the connection.) A grant that has ended by the
// server's clock has ended, and no start from disk revives it.
func (f *fleet) wrongClock(t *testing.T) {
	const behind = 2 * time.Hour
	server, err := url.Parse("http://" + f.addresses.frail)
	require.NoError(t, err)
	relay := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			r.Out.Header.Set("Accept-Encoding", "identity")
		},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path == "/v1/feed" {
				r.Body = ahead(r.Body, behind)
			}
			return nil
		},
	})
	defer relay.Close()
	addresses, dir := []string{freePort(t), freePort(t)}, filepath.Join(t.TempDir(), "snapshot")
	follow := func(listen string, more ...string) *process {
		return start(t, []string{"USHER_TOKEN=" + f.token}, binary(t, "usher"),
			append([]string{"sidecar", "--admin-url", relay.URL, "--listen", listen}, more...)...)
	}
	resident := follow(addresses[0], "--dir", dir)
	onDemand := follow(addresses[1], "--mode", "on-demand", "--redis-url", f.env["USHER_REDIS_URL"], "--redis-key-file", f.env["USHER_REDIS_KEY_FILE"])

	revision := f.must(t, http.MethodPut, f.grantURL, map[string]any{
		"roles": []string{"viewer"}, "expires_at": time.Now().Add(behind / 2).UTC().Format(time.RFC3339Nano),
	}).revision
	for i, s := range []*process{resident, onDemand} {
		door := "http://" + addresses[i]
		f.denies(t, door, revision)
		f.tells(t, door, "usher_engine_clock_skew_seconds ", func(n float64) bool { return n < -(behind - time.Minute).Seconds() })
		require.Contains(t, s.output.String(), "the clock is not the admin server's")
	}
	d, err := f.evaluate(f.admin, asked(), revision)
	require.NoError(t, err)
	require.True(t, d.Decision, "by the clock of this machine it has not ended")

	resident.stop(t, syscall.SIGTERM)
	relay.CloseClientConnections()
	relay.Close()
	follow(addresses[0], "--dir", dir)
	f.denies(t, "http://"+addresses[0], revision)
}

// ahead is a feed, not compressed, whose heartbeats are from so much later.
func ahead(feed io.ReadCloser, by time.Duration) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		lines := bufio.NewReader(feed)
		for {
			line, err := lines.ReadBytes('\n')
			if bytes.HasPrefix(line, []byte(`{"type":"heartbeat"`)) {
				line, err = later(line, by)
			}
			if err == nil {
				_, err = in.Write(line)
			}
			if err != nil {
				_ = in.CloseWithError(err)
				_ = feed.Close()
				return
			}
		}
	}()
	return out
}

func later(line []byte, by time.Duration) ([]byte, error) {
	var beat struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &beat); err != nil {
		return nil, err
	}
	was, err := json.Marshal(beat.Time)
	if err != nil {
		return nil, err
	}
	is, err := json.Marshal(beat.Time.Add(by))
	return bytes.Replace(line, was, is, 1), err
}
