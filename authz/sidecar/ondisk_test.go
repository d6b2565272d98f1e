package sidecar_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
)

// TestOnDisk: a sidecar that is started with everything else down answers from its
// snapshot if that was confirmed fresh lately, and else says why not.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	admin := serveFeed(t, company(t))
	o := sidecar.Options{AdminURL: admin.web.URL, Token: adminToken, Dir: t.TempDir(), SnapshotInterval: 5 * time.Millisecond}
	s := start(t, o)
	eventually(t, func() bool { return s.Ready().Ready }, "it has caught up")
	revision := admin.write(t, policies.KindRole, "olga", "r", policies.RoleBody{Name: "Nothing"})
	caller := call(t, s.URL(), nil)
	eventually(t, func() bool { return counter(t, caller, "usher_snapshot_revision") == int(revision) }, "it is on disk")
	eventually(t, func() bool { return counter(t, caller, "usher_snapshot_confirmed_timestamp_seconds") > 0 }, "it is confirmed")
	stop(t, s)
	admin.web.CloseClientConnections()
	admin.web.Close()

	again := start(t, o)
	eventually(t, func() bool { return again.Ready().Ready }, "it answers from disk")
	require.Equal(t, revision, again.Ready().Revision)
	caller = call(t, again.URL(), nil)
	status, _ := caller.view(t)
	require.Equal(t, http.StatusUnauthorized, status, "tokens are in the snapshot")
	caller.token = adminToken
	status, got := caller.view(t)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, policies.ReasonActionNotGranted, got.Context.Reason)
	require.Equal(t, revision, got.Context.Revision)
	stop(t, again)

	for reason, adapt := range map[string]func(*sidecar.Options){
		"last confirmed": func(o *sidecar.Options) { o.MaxOffline = time.Nanosecond },
		"last confirmed 2": func(o *sidecar.Options) {
			o.Clock = func() time.Time { return time.Now().Add(25 * time.Hour) }
		},
		"has not reached the admin server yet": func(o *sidecar.Options) { o.Token = adminToken[:len(adminToken)-1] + "x" },
	} {
		o := o
		adapt(&o)
		late := start(t, o)
		want := reason
		if reason == "last confirmed 2" {
			want = "last confirmed 25h"
		}
		eventually(t, func() bool {
			_, body := call(t, late.URL(), nil).status(t, "/ready")
			return !late.Ready().Ready && strings.Contains(body, want)
		}, want)
		caller := call(t, late.URL(), nil)
		caller.token = adminToken
		status, _ := caller.view(t)
		require.Equal(t, http.StatusServiceUnavailable, status, reason)
		stop(t, late)
	}
}
