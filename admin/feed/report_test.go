package feed

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	wire "github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/feed/feedtest"
	"github.com/usher-authz/usher/policies"
)

// reported collects reports.
type reported struct {
	mu  sync.Mutex
	all []wire.Report
}

func (r *reported) take(report *wire.Report, address string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if address != "127.0.0.1" {
		return errors.New("from nowhere")
	}
	r.all = append(r.all, *report)
	return nil
}

func (r *reported) last() wire.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return wire.Report{}
	}
	return r.all[len(r.all)-1]
}

func TestSidecarsReport(t *testing.T) {
	t.Parallel()
	p := feedtest.New(t, "p", feedtest.Account(t, "a"))
	r := newReplica(t, p, nil)
	var got reported
	mux := http.NewServeMux()
	mux.HandleFunc(wire.StreamPath, r.server.ServeFeed)
	mux.Handle(wire.ReportPath, r.server.ServeReport(got.take))
	r.tamper.swap(mux)
	s := newSidecar(t, r.http.URL, func(o *wire.Options) {
		o.Self = &wire.Self{Name: "rack 7", Version: "v1", Checks: func() float64 { return 7 }}
	})
	for range 3 {
		want := p.Write(feedtest.Environment(t, "a", "e")).Revision
		eventually(t, "the revision is reported", func() bool { return got.last().Revision == want })
	}
	report := got.last()
	require.Equal(t, "rack 7", report.Name)
	require.Equal(t, "v1", report.Version)
	require.Equal(t, wire.ModeResident, report.Mode)
	require.NotNil(t, report.Age)
	require.False(t, report.Leaving)

	// An admin server that does not take reports changes nothing else.
	r.tamper.swap(http.HandlerFunc(r.server.ServeFeed))
	s.reaches(t, func() *feedtest.Platform { p.Write(feedtest.Environment(t, "a", "f")); return p }().State())
	r.tamper.swap(mux)
	want := p.Write(feedtest.Environment(t, "a", "g")).Revision
	eventually(t, "it reports again", func() bool { return got.last().Revision == want })

	s.stop()
	require.True(t, got.last().Leaving)
	for i, report := range got.all {
		require.Equal(t, got.all[0].Sidecar, report.Sidecar)
		if i > 0 {
			require.Greater(t, report.Sequence, got.all[i-1].Sequence)
			require.GreaterOrEqual(t, report.Revision, got.all[i-1].Revision)
		}
	}
}

func TestReportFaults(t *testing.T) {
	t.Parallel()
	r := newReplica(t, feedtest.New(t, "p", feedtest.Account(t, "a")), nil)
	good := `{"sidecar":"` + strings.Repeat("0a", 16) + `","sequence":1,"name":"n","version":"","mode":"notices","revision":1,"checks_per_second":0}`
	send := func(body string, take func(*wire.Report, string) error) int {
		answer := httptest.NewRecorder()
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, wire.ReportPath, strings.NewReader(body))
		q.Header.Set("Content-Type", "application/json")
		r.server.ServeReport(take).ServeHTTP(answer, q)
		return answer.Code
	}
	taken := func(*wire.Report, string) error { return nil }
	require.Equal(t, http.StatusOK, send(good, taken))
	require.Equal(t, http.StatusServiceUnavailable, send(good, func(*wire.Report, string) error { return errors.New("full") }))
	for old, by := range map[string]string{
		"0a": "0A", `"sequence":1`: `"sequence":0`, `"name":"n"`: `"name":""`, `"n"`: `"\u0007"`, `notices`: `bundle`,
		`"revision":1`: `"revision":` + (policies.MaxRevision + 1).String(), `second":0`: `second":-1`, `{`: `{"other":1,`, `"version":""`: `"version":"` + strings.Repeat("v", 256) + `"`,
	} {
		require.Equal(t, http.StatusBadRequest, send(strings.Replace(good, old, by, 1), taken), by)
	}
}
