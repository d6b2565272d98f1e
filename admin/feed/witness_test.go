package feed

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// A sidecar that is ahead of the log proves it by the last heartbeat or seal that it
// has; one that this platform's keys did not sign proves nothing.
func TestWhoIsAheadProvesIt(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	var mu sync.Mutex
	var told []policies.Revision
	r := newReplica(t, p, func(o *Options) {
		signsWith(t, k)(o)
		o.CatchUpWait = time.Millisecond
		o.Witness = func(_ context.Context, revision policies.Revision, hash policies.Hash) error {
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, policies.Hash{7}, hash)
			told = append(told, revision)
			return nil
		}
	})
	signed := func(platform string, keys ...*signing.Key) string {
		signer, err := signing.NewSigner(keys...)
		require.NoError(t, err)
		h := &wire.Heartbeat{Platform: platform, Revision: 99, Hash: policies.Hash{7}, Time: time.Now().UTC(), Nonce: "ab"}
		require.NoError(t, h.Sign(signer))
		text, err := wire.FormatWitness(h)
		require.NoError(t, err)
		return text
	}
	sealed := func(platform string) string {
		signer, err := signing.NewSigner(k)
		require.NoError(t, err)
		var sealer wire.Sealer
		sealer.Line([]byte("a line"))
		seal, err := sealer.Seal(signer, platform, 99, policies.Hash{7})
		require.NoError(t, err)
		text, err := wire.FormatWitness(seal)
		require.NoError(t, err)
		return text
	}
	end, err := wire.FormatWitness(&wire.SnapshotEnd{})
	require.NoError(t, err)
	good := signed("p", k)
	for name, witness := range map[string]string{
		"another key": signed("p", signingKey(t)), "another platform": signed("q", k), "unsigned": signed("p"),
		"none": "", "not base64": "%", "no frame": "AAAA", "cut": good[:len(good)/2], "altered": strings.Replace(good, good[40:44], "AAAA", 1),
		"a seal of another platform": sealed("q"), "neither": end,
		"genuine": good, "a genuine seal": sealed("p"),
	} {
		req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, r.http.URL+wire.StreamPath+"?"+
			url.Values{"revision": {"99"}, "hash": {strings.Repeat("07", 32)}}.Encode(), nil)
		require.NoError(t, err, name)
		req.Header.Set(wire.WitnessHeader, witness)
		requireProblem(t, req, http.StatusServiceUnavailable, problem.RevisionBehind)
	}
	require.Equal(t, []policies.Revision{99, 99}, told, "by the genuine ones")
}

// What a sidecar sends on resuming is what it verified last: a change, before any
// heartbeat has named it.
func TestASidecarIsWitness(t *testing.T) {
	t.Parallel()
	k := signingKey(t)
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, func(o *Options) {
		signsWith(t, k)(o)
		o.Heartbeat = time.Hour
	})
	s := newSidecar(t, r.http.URL, func(o *wire.Options) {
		verifiesWith(t, k)(o)
		o.Silence = time.Hour
	})
	s.reaches(t, p.State())
	p.WriteEnvironments("a", "e", 2)
	s.reaches(t, p.State())
	seen, next := make(chan string, 1), r.tamper.next
	r.tamper.swap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case seen <- r.Header.Get(wire.WitnessHeader):
		default:
		}
		next.ServeHTTP(w, r)
	}))
	r.http.CloseClientConnections()
	h, err := wire.ParseWitness(<-seen, "p", verifier(t, k))
	require.NoError(t, err)
	require.Equal(t, p.State().Revision(), h.Revision)
	require.Equal(t, p.State().Hash(), h.Hash)
}
