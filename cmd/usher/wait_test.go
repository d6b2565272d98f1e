package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWaitNamesWhoIsBehind has an admin server whose sidecars are behind for ever, or
// catch up while it is asked.
func TestWaitNamesWhoIsBehind(t *testing.T) {
	t.Parallel()
	const behind = `{"sidecars":{"connected":2,"applied":1},"behind":[{"sidecar":"rack 7"}]}`
	asked := 0
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/revisions/8" && r.URL.RawQuery == "wait=applied":
			<-r.Context().Done() // nobody has it in time
		case r.URL.Path == "/v1/revisions/8":
			_, _ = w.Write([]byte(behind))
		case asked == 0:
			asked++
			_, _ = w.Write([]byte(behind))
		default:
			_, _ = w.Write([]byte(`{"sidecars":{"connected":2,"applied":2},"behind":[]}`))
		}
	}))
	t.Cleanup(admin.Close)
	c, err := newClient("admin-url", admin.URL, "t")
	require.NoError(t, err)
	require.NoError(t, waiting{Wait: true, WaitLimit: time.Minute}.onAdmin(t.Context(), c, "7"))
	require.NoError(t, waiting{}.onAdmin(t.Context(), c, "8"))
	err = waiting{Wait: true, WaitLimit: 100 * time.Millisecond}.onAdmin(t.Context(), c, "8")
	require.EqualError(t, err, "it is written, but revision 8 is not at 1 of the sidecars after 100ms: rack 7")
	err = waiting{Wait: true, WaitLimit: time.Minute}.onAdmin(t.Context(), &client{base: "http://127.0.0.1:1", http: &http.Client{}}, "8")
	require.ErrorContains(t, err, "it is written, revision 8, but whether the sidecars have it is not known")
}
