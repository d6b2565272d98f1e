package admin_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/fleet"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
)

// into decodes the body.
func (a answer) into(to any) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.body, to))
}

type receipt struct {
	Revision uint64 `json:"revision"`
	Sidecars struct {
		Connected int `json:"connected"`
		Applied   int `json:"applied"`
	} `json:"sidecars"`
	Behind []struct {
		Sidecar  string `json:"sidecar"`
		Revision uint64 `json:"revision"`
	} `json:"behind"`
}

// sidecar runs one that is fed by the platform's server.
func (p *platform) sidecar(name string, change func(*sidecar.Options)) *sidecar.Sidecar {
	p.t.Helper()
	o := sidecar.Options{Name: name, Version: "v1", AdminURL: p.server.URL(), Token: p.token, NoListener: true, Logger: slog.New(slog.NewTextHandler(&testLog{p.t}, nil))}
	if change != nil {
		change(&o)
	}
	s, err := sidecar.New(o)
	require.NoError(p.t, err)
	require.NoError(p.t, s.Start(context.Background()))
	p.t.Cleanup(func() { require.NoError(p.t, s.Stop(context.Background())) })
	return s
}

// report is what a sidecar of that name would say that has applied revision.
func (p *platform) report(name string, sequence, revision uint64, leaving bool) {
	p.t.Helper()
	p.do("POST", "/v1/feed/report", m{
		"sidecar": fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:32], "sequence": sequence, "name": name, "version": "", "mode": "notices",
		"revision": revision, "age_seconds": 60, "checks_per_second": 0, "leaving": leaving,
	}).want(200)
}

func (p *platform) receipt(revision uint64, query string) (r receipt) {
	p.t.Helper()
	p.do("GET", "/v1/revisions/"+strconv.FormatUint(revision, 10)+query, nil).want(200).into(&r)
	require.Equal(p.t, revision, r.Revision)
	return r
}

// What a sidecar has told counts, though the server that it told stops at once.
func TestAServerThatStopsForgetsNoReport(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{URL: storetest.URL(t)})
	f, err := fleet.New(fleet.Options{Store: s})
	require.NoError(t, err)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	told := func(sequence uint64, leaving bool, connected int) {
		require.NoError(t, f.Take(&wire.Report{Sidecar: "rack7", Sequence: sequence, Mode: wire.ModeNotices, Leaving: leaving}, "127.0.0.1"))
		f.Run(stopped)
		list, err := s.Sidecars(t.Context(), store.Page{Limit: 10})
		require.NoError(t, err)
		require.Len(t, list.Items, connected)
	}
	told(1, false, 1)
	told(2, true, 0)
}

// TestReceipt has two replicas, with a sidecar at each, and one that reports by hand.
func TestReceipt(t *testing.T) {
	t.Parallel()
	p := start(t)
	other := startOn(t, p.database)
	p.sidecar("one", nil)
	other.sidecar("two", func(o *sidecar.Options) { o.Mode = sidecar.ModeOnDemand })
	eventually(t, time.Minute, func() bool { return other.receipt(1, "").Sidecars.Connected == 2 })

	last := uint64(p.do("PUT", "/v1/accounts/own", m{"email": "own@example.com"}).want(201).revision())
	r := other.receipt(last, "?wait=applied")
	require.Equal(t, 2, r.Sidecars.Connected)
	require.Equal(t, 2, r.Sidecars.Applied)
	require.Empty(t, r.Behind)

	var list struct {
		Items []struct {
			Name     string   `json:"name"`
			Mode     string   `json:"mode"`
			Address  string   `json:"address"`
			Revision uint64   `json:"revision"`
			Age      *float64 `json:"age"`
		} `json:"items"`
		Next *string `json:"next_cursor"`
	}
	p.do("GET", "/v1/sidecars?limit=1", nil).want(200).into(&list)
	require.Len(t, list.Items, 1)
	require.Equal(t, "one", list.Items[0].Name)
	require.Equal(t, "resident", list.Items[0].Mode)
	require.Equal(t, "127.0.0.1", list.Items[0].Address)
	require.Equal(t, last, list.Items[0].Revision)
	require.NotNil(t, list.Items[0].Age)
	p.do("GET", "/v1/sidecars?cursor="+*list.Next, nil).want(200).into(&list)
	require.Len(t, list.Items, 1)
	require.Equal(t, "on-demand", list.Items[0].Mode)

	// One that is behind is named, until it has caught up: a late report is not its last word.
	p.report("slow", 2, last-1, false)
	p.report("slow", 1, last, false)
	eventually(t, time.Minute, func() bool { return other.receipt(last, "").Sidecars.Connected == 3 })
	r = other.receipt(last, "")
	require.Equal(t, 2, r.Sidecars.Applied)
	require.Equal(t, "slow", r.Behind[0].Sidecar)
	require.Equal(t, last-1, r.Behind[0].Revision)
	metrics := string(p.do("GET", "/metrics", nil).want(200).body)
	require.Contains(t, metrics, "usher_fleet_sidecars 3\n")
	require.Contains(t, metrics, "usher_fleet_behind 1\n")
	require.Regexp(t, `usher_fleet_oldest_age_seconds 6\d`, metrics)
	waited := make(chan receipt)
	go func() { waited <- other.receipt(last, "?wait=applied") }()
	p.report("slow", 3, last, false)
	require.Empty(t, (<-waited).Behind)
	p.report("slow", 4, last, true)
	eventually(t, time.Minute, func() bool { return other.receipt(last, "").Sidecars.Connected == 2 })
	p.report("slow", 3, 1, false)      // overtaken by its own farewell
	p.report("marker", 1, last, false) // is not written before it
	eventually(t, time.Minute, func() bool { return other.receipt(last, "").Sidecars.Connected == 3 })
	require.Equal(t, 3, other.receipt(last, "").Sidecars.Applied)

	for _, path := range []string{"/v1/revisions/" + strconv.FormatUint(last+100, 10), "/v1/revisions/0", "/v1/revisions/x", "/v1/revisions/" + strings.Repeat("9", 30)} {
		p.do("GET", path, nil).want(404)
	}
	p.do("GET", "/v1/revisions/1?wait=ever", nil).want(422)
	p.do("GET", "/v1/revisions/1", nil, as("own")).want(403)
	p.do("POST", "/v1/feed/report", m{}, with("Authorization", "Bearer "+p.newToken(policies.ScopeChecks))).want(http.StatusForbidden)
}
