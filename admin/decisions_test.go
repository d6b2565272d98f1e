package admin_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
)

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return packed.Bytes()
}

func event(id string, more string) string {
	return fmt.Sprintf(`{"labels":{"id":"i1","version":"1"},"decision_id":%q,"timestamp":%q%s}`, id, time.Now().UTC().Format(time.RFC3339Nano), more)
}

const asked = `,"input":{"subject":{"type":"account","id":"mia"},"action":{"name":"a.Start"},"resource":{"type":"environment","id":"e1"}}`

func TestUploads(t *testing.T) {
	t.Parallel()
	p := start(t)
	gzip := with("Content-Encoding", "gzip")
	whole := asked + `,"path":"usher/authz/decision","result":{"decision":false,"context":{"reason":"not_shared","revision":7}},"bundles":{"usher":{"revision":"7"}}`
	eventually(t, time.Minute, func() bool { // the partitions are being made
		return p.do("POST", "/v1/logs", gzipped(t, "["+event("d1", whole)+","+event("d2", asked+`,"path":"usher/authz/allow","result":true`)+"]"), gzip).status == 204
	})
	p.do("POST", "/v1/logs", "["+event("d3", `,"input":"other","result":{"decision":"maybe"},"path":"other"`)+",\n"+event("d4", `,"erased":["/input"]`)+"]").want(204)
	p.do("POST", "/v1/logs", event("d5", whole)).want(204)
	p.do("POST", "/v1/logs", "[]").want(204)
	require.Equal(t, 5, p.do("GET", "/v1/decisions", nil).want(200).len("items"))
	found := p.do("GET", "/v1/decisions?subject=mia&outcome=deny&action=a.Start&type=environment&id=e1&reason=not_shared", nil).want(200)
	require.Equal(t, 2, found.len("items"))
	one := p.do("GET", "/v1/decisions/d1", nil).want(200)
	require.Equal(t, "not_shared", one.text("reason"))
	require.InDelta(t, 7, one.get("revision"), 0)
	require.Equal(t, "i1", one.text("instance"))
	require.Equal(t, "usher/authz/decision", one.text("event.path"))
	require.Equal(t, "none", p.do("GET", "/v1/decisions/d3", nil).want(200).text("outcome"))
	p.do("GET", "/v1/decisions/d9", nil).want(404)
	p.do("GET", "/v1/decisions?type=environment", nil).want(422)
	p.do("GET", "/v1/decisions?outcome=yes", nil).want(422)

	p.do("POST", "/v1/status", gzipped(t, `{"labels":{"id":"i1"},"bundles":{"usher":{"active_revision":"7"},"x":{"code":"bundle_error"}}}`), gzip).want(204)
	status := p.do("GET", "/v1/status", nil).want(200)
	require.Equal(t, "7", status.text("items.0.revision"))
	require.InDelta(t, 1, status.get("items.0.errors"), 0)

	large := strings.Repeat("x", policies.MaxDecisionBytes)
	for what, test := range map[string]struct {
		path   string
		body   any
		status int
		with   []option
	}{
		"nothing":         {"/v1/logs", "", 400, nil},
		"no JSON":         {"/v1/logs", "[{]", 400, nil},
		"cut off":         {"/v1/logs", "[" + event("c1", ""), 400, nil},
		"twice":           {"/v1/logs", event("c1", "") + event("c2", ""), 400, nil},
		"no event":        {"/v1/logs", "[1]", 400, nil},
		"no id":           {"/v1/logs", "[" + event("", "") + "]", 400, nil},
		"no time":         {"/v1/logs", `[{"decision_id":"c1"}]`, 400, nil},
		"zero in id":      {"/v1/logs", `[{"decision_id":"c\u0000","timestamp":"2026-01-01T00:00:00Z"}]`, 400, nil},
		"not gzip":        {"/v1/logs", "[]", 400, []option{gzip}},
		"gzip cut off":    {"/v1/logs", gzipped(t, "["+event("c1", "")+"]")[:40], 400, []option{gzip}},
		"encoding":        {"/v1/logs", "[]", 400, []option{with("Content-Encoding", "br")}},
		"type":            {"/v1/logs", "[]", 400, []option{with("Content-Type", "text/plain")}},
		"query":           {"/v1/logs?x=1", "[]", 400, nil},
		"act as":          {"/v1/logs", "[]", 400, []option{as("mia")}},
		"large event":     {"/v1/logs", "[" + event("c1", `,"input":"`+large+`"`) + "]", 413, nil},
		"bomb":            {"/v1/logs", gzipped(t, "["+strings.Repeat(" ", policies.MaxDecisionsBytes)+"]"), 413, []option{gzip}},
		"large body":      {"/v1/logs", strings.Repeat(" ", policies.MaxDecisionUploadBytes+1), 413, nil},
		"deep":            {"/v1/logs", strings.Repeat("[", 100_000), 400, nil},
		"status no JSON":  {"/v1/status", "{", 400, nil},
		"status no id":    {"/v1/status", `{"labels":{"id":7}}`, 400, nil},
		"status large":    {"/v1/status", `{"labels":{"id":"i2","x":"` + large + `"}}`, 413, nil},
		"status an array": {"/v1/status", `[]`, 400, nil},
	} {
		a := p.do("POST", test.path, test.body, test.with...)
		require.Equal(t, test.status, a.status, "%s: %s", what, a.body)
	}
	require.Equal(t, 5, p.do("GET", "/v1/decisions", nil).want(200).len("items"))
	p.do("POST", "/v1/logs", "["+event("z1", `,"path":"a\u0000b","input":{"subject":{"id":"`+strings.Repeat("ä", 1000)+`"}}`)+"]").want(204)
	require.Equal(t, "a�b", p.do("GET", "/v1/decisions/z1", nil).want(200).text("path"))
}

// TestStockOPAReports: a stock OPA, fed by the bundle, sends its decisions and its
// status, and they are found.
func TestStockOPAReports(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("mia")
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	o := p.opa(t, `decision_logs: {service: usher, reporting: {min_delay_seconds: 1, max_delay_seconds: 1}}
status: {service: usher}`)
	var id string
	eventually(t, time.Minute, func() bool {
		a := o.ask(t, `{"input":{"subject":{"type":"account","id":"mia"},"action":{"name":"environment.control.StartEnv"},"resource":{"type":"environment","id":"e"}}}`)
		if !strings.Contains(a, `"no_collaboration"`) {
			return false
		}
		_, id, _ = strings.Cut(a, `"decision_id":"`)
		id, _, _ = strings.Cut(id, `"`)
		return true
	})
	eventually(t, time.Minute, func() bool { return p.do("GET", "/v1/decisions/"+id, nil).status == 200 })
	one := p.do("GET", "/v1/decisions/"+id, nil).want(200)
	require.Equal(t, "deny", one.text("outcome"))
	require.Equal(t, "no_collaboration", one.text("reason"))
	require.Equal(t, "mia", one.text("subject"))
	require.Equal(t, "e", one.text("resource.id"))
	require.Equal(t, p.check("mia", "environment.control.StartEnv", "environment", "e", 0).get("context.revision"), one.get("revision"))
	eventually(t, time.Minute, func() bool {
		a := p.do("GET", "/v1/status", nil).want(200)
		return a.len("items") == 1 && a.get("items.0.revision") == fmt.Sprint(one.get("revision"))
	})
}

// opa is a stock OPA server on a socket, fed by the platform's bundle.
type opa struct{ client *http.Client }

func (p *platform) opa(t *testing.T, config string) *opa {
	t.Helper()
	program := os.Getenv("USHER_TEST_OPA")
	if program == "" {
		out, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "opa").Output() // builds it, once for all runs
		require.NoError(t, err, "build opa")
		program = strings.TrimSpace(string(out))
	}
	dir, err := os.MkdirTemp("", "opa") //nolint:usetesting // t.TempDir is too long for the path of a socket
	require.NoError(t, err)
	file, socket := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "s")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
services: {usher: {url: %q, credentials: {bearer: {token: %q}}}}
bundles: {usher: {service: usher, resource: bundles/usher.tar.gz, polling: {long_polling_timeout_seconds: 10}}}
%s
`, p.server.URL()+"/v1", p.token, config), 0o600))
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "run", "--server", "--addr", "unix://"+socket, "--config-file", file, "--disable-telemetry")
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		<-ended // t.Context has ended
		if t.Failed() {
			t.Log(output.String())
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	return &opa{&http.Client{Transport: transport, Timeout: time.Minute}}
}

// ask posts to the decision; "" while OPA does not answer.
func (o *opa) ask(t *testing.T, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://opa/v1/data/usher/authz/decision", strings.NewReader(body))
	require.NoError(t, err)
	resp, err := o.client.Do(r)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var answer bytes.Buffer
	_, err = answer.ReadFrom(resp.Body)
	require.NoError(t, err)
	return answer.String()
}

// TestFollowDecisions: whoever follows gets what is logged as it comes in, by a sidecar
// that sends late too, and goes on where it was.
func TestFollowDecisions(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("mia")
	put := p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	eventually(t, time.Minute, func() bool { return p.do("POST", "/v1/logs", "["+event("d0", asked)+"]").status == 204 })
	all := p.follow(t, "/v1/decisions/events")
	begin := all.next("ready")
	denied := p.follow(t, "/v1/decisions/events?outcome=deny")
	denied.next("ready")

	// The sidecar is cut off from where its decisions go, while others are not.
	target, err := url.Parse(p.server.URL())
	require.NoError(t, err)
	open, forward := make(chan struct{}), httputil.NewSingleHostReverseProxy(target)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-open
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(between.Close)
	s, err := sidecar.New(sidecar.Options{
		AdminURL: p.server.URL(), Token: p.token, NoListener: true,
		DecisionLog: &decisionlog.Options{Labels: map[string]string{"id": "s1"}, URL: between.URL + "/v1/logs", Token: p.token, Sample: 1},
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	eventually(t, time.Minute, func() bool { return s.Ready().Ready })
	_, err = s.Check(t.Context(), put.revision(), authz.Question{
		SubjectType: "account", Subject: "mia", Action: "environment.control.StartEnv", ResourceType: "environment", ResourceID: "e",
		Request: &authz.Request{DecisionID: "late"},
	})
	require.NoError(t, err)
	p.do("POST", "/v1/logs", "["+event("sooner", asked+`,"result":true`)+"]").want(204)
	sooner := all.next("decision")
	require.Equal(t, "sooner", sooner.data["id"])
	require.Equal(t, "allow", sooner.data["outcome"])
	close(open)
	for _, stream := range []*events{all, denied} {
		late := stream.next("decision")
		require.Equal(t, "late", late.data["id"])
		require.Equal(t, "no_collaboration", late.data["reason"])
		require.Less(t, late.data["time"], sooner.data["time"])
	}

	require.NoError(t, s.Stop(t.Context()))

	again := p.follow(t, "/v1/decisions/events", with("Last-Event-ID", sooner.id))
	again.next("ready")
	require.Equal(t, "late", again.next("decision").data["id"])
	begun := p.follow(t, "/v1/decisions/events", with("Last-Event-ID", begin.id))
	begun.next("ready")
	require.Equal(t, sooner, begun.next("decision"))
	for _, id := range []string{"-1", "x", "9007199254740991"} {
		p.follow(t, "/v1/decisions/events", with("Last-Event-ID", id)).next("reset")
	}
	p.do("GET", "/v1/decisions/events?outcome=maybe", nil).want(422)
	p.do("GET", "/v1/decisions/events", nil, as("own")).want(403)
	p.do("GET", "/v1/decisions/events", nil, with("Authorization", "Bearer "+p.newToken(policies.ScopeChecks))).want(403)
}

// TestReplay: a sidecar logs to the admin server; what it answered is decided again, as
// it was and as it would be now.
func TestReplay(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.account("own")
	p.account("mia")
	p.account("max")
	p.do("PUT", "/v1/accounts/own/environments/e", m{"name": "e"}).want(201)
	role := p.do("POST", "/v1/accounts/own/roles", m{"id": "r", "name": "R", "policies": []string{"environment.start"}}).want(201)
	eventually(t, time.Minute, func() bool { return p.do("POST", "/v1/logs", "[]").status == 204 })
	s, err := sidecar.New(sidecar.Options{
		AdminURL: p.server.URL(), Token: p.token, NoListener: true,
		DecisionLog: &decisionlog.Options{Labels: map[string]string{"id": "s1"}, URL: p.server.URL() + "/v1/logs", Token: p.token, Sample: 1},
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	ask := func(subject, id string, least policies.Revision) policies.Revision {
		t.Helper()
		d, err := s.Check(t.Context(), least, authz.Question{
			SubjectType: "account", Subject: subject, Action: "environment.control.StartEnv", ResourceType: "environment", ResourceID: "e",
			Request: &authz.Request{DecisionID: id},
		})
		require.NoError(t, err)
		return d.Revision
	}
	eventually(t, time.Minute, func() bool { return s.Ready().Ready })
	before := ask("mia", "before", role.revision())
	ask("max", "never", 0)
	member := p.do("POST", "/v1/accounts/own/members", m{"email": "mia@example.com", "grants": []any{grant("environment", "e", "r")}}).want(201).text("id")
	ask("mia", "shared", p.do("POST", "/v1/collaborations/"+member+"/accept", nil, as("mia")).want(200).revision())
	ask("mia", "suspended", p.do("POST", "/v1/accounts/own/members/"+member+"/suspend", nil).want(200).revision())
	ask("own", "owner", 0)
	ask("mia", "gone", p.do("DELETE", "/v1/accounts/own/environments/e", nil).want(204).revision())
	require.NoError(t, s.Stop(t.Context())) // what waits is sent

	for id, want := range map[string][2]string{
		"before": {"no_collaboration", "unknown_resource"}, "never": {"no_collaboration", "unknown_resource"},
		"shared": {"granted", "unknown_resource"}, "suspended": {"collaboration_suspended", "unknown_resource"},
		"owner": {"owner", "unknown_resource"}, "gone": {"unknown_resource", "unknown_resource"},
	} {
		a := p.do("GET", "/v1/decisions/"+id+"/replay", nil).want(200)
		require.Equal(t, want[0], a.text("logged.reason"), id)
		require.Equal(t, want[0], a.text("then.context.reason"), id)
		require.Equal(t, a.get("logged.revision"), a.get("then.context.revision"), id)
		require.Equal(t, want[1], a.text("now.context.reason"), id)
		require.Equal(t, true, a.get("same"), id)
	}

	// Somebody answered what was not so; the log has no such revision; nothing to decide.
	question := strings.Replace(asked, `"e1"`, `"e"`, 1)
	said := func(revision policies.Revision) string {
		return question + fmt.Sprintf(`,"result":{"decision":true,"context":{"reason":"granted","owner":"own","revision":%d}}`, revision)
	}
	p.do("POST", "/v1/logs", "["+event("wrong", said(before))+","+event("future", said(before+1000))+","+event("masked", `,"erased":["/input"]`)+"]").want(204)
	wrong := p.do("GET", "/v1/decisions/wrong/replay", nil).want(200)
	require.Equal(t, false, wrong.get("same"))
	require.Equal(t, "unknown_action", wrong.text("then.context.reason"))
	require.Nil(t, p.do("GET", "/v1/decisions/future/replay", nil).want(200).get("then"))
	p.do("GET", "/v1/decisions/masked/replay", nil).want(422)
	p.do("GET", "/v1/decisions/nothing/replay", nil).want(404)
}

// TestAdminLogsDecisions: the admin server's own check API is one more door that is
// logged.
func TestAdminLogsDecisions(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.stop()
	var console bytes.Buffer
	p.run(func(o *admin.Options) {
		o.DecisionLog = &decisionlog.Options{Labels: map[string]string{"id": "a1"}, Console: &console, Sample: 1}
	})
	made := p.do("PUT", "/v1/accounts/own", m{"email": "own@example.com"}).want(201)
	p.check("own", "environment.control.StartEnv", "account", "own", made.revision())
	p.stop() // what waits is written
	require.Equal(t, 1, strings.Count(console.String(), "\n"), console.String())
	require.Contains(t, console.String(), `"labels":{"id":"a1"}`)
	require.Contains(t, console.String(), `"reason":"owner"`)
}
