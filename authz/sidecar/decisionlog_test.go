package sidecar_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/decisionlog"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/authz/sidecar"
)

// TestEveryDoorIsLogged: each decision is one event, whichever door it was asked by.
func TestEveryDoorIsLogged(t *testing.T) {
	t.Parallel()
	mapping, err := routes.Parse([]byte(`
subject: "{header:X-Account}"
routes:
  - {path: "/e/{id}", action: environment.control.GetEnvInfo, resource: {type: environment, id: "{id}"}}`))
	require.NoError(t, err)
	dir := t.TempDir()
	bundle, socket := filepath.Join(dir, "b"), filepath.Join(dir, "s")
	write(t, bundle, bundleOf(t, 3, company(t)))
	var console bytes.Buffer
	s := start(t, sidecar.Options{
		Bundle: bundle, Listen: "127.0.0.1:0", Socket: socket, SocketMode: 0o600, Routes: mapping, EnvoyListen: "127.0.0.1:0",
		DecisionLog: &decisionlog.Options{Labels: map[string]string{"id": "s1"}, Console: &console, Sample: 1},
	})
	web := call(t, s.URL(), nil)
	post := func(path, body string, headers ...string) {
		t.Helper()
		method := http.MethodPost
		if body == "" {
			method = http.MethodGet
		}
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		response, err := web.http.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
	const rest = `"action":{"name":"environment.control.GetEnvInfo"},"resource":{"type":"environment","id":"e"}}`
	asks := func(subject string) string {
		return `{"subject":{"type":"account","id":"` + subject + `"},"context":{"door":"` + subject + `"},` + rest
	}
	post(server.PathEvaluation, asks("single"), "X-Request-ID", "r-1")
	post(server.PathEvaluations, `{"evaluations":[`+asks("batch-1")+`,{"subject":7},`+asks("batch-2")+`]}`)
	post(server.PathData+"usher/authz/decision", `{"input":`+asks("data")+`}`)
	post(server.PathForward, "", "X-Original-Method", "GET", "X-Original-URI", "/e/e", "X-Account", "mia")
	status, _ := call(t, "http://usher", bySocket(socket)).check(t, "socket", "environment.control.GetEnvInfo", "environment", "e")
	require.Equal(t, http.StatusOK, status)
	connection, err := grpc.NewClient(s.EnvoyAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer connection.Close()
	_, err = authv3.NewAuthorizationClient(connection).Check(t.Context(), &authv3.CheckRequest{
		Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/e/e", Headers: map[string]string{"x-account": "envoy", "x-request-id": "r-2"}},
		}},
	})
	require.NoError(t, err)
	q := authz.Question{SubjectType: "account", Subject: "embedded-1", Action: "environment.control.GetEnvInfo", ResourceType: "environment", ResourceID: "e"}
	_, err = s.Check(t.Context(), 0, q)
	require.NoError(t, err)
	q.Subject = "embedded-2"
	_, err = s.Decide(t.Context(), 0, []authz.Question{q})
	require.NoError(t, err)
	stop(t, s) // what waits is written

	type event struct {
		Labels     map[string]string `json:"labels"`
		DecisionID string            `json:"decision_id"`
		Input      struct {
			Subject struct {
				ID string `json:"id"`
			} `json:"subject"`
			Context map[string]string `json:"context"`
		} `json:"input"`
		Result      decision          `json:"result"`
		RequestedBy string            `json:"requested_by"`
		Custom      map[string]string `json:"custom"`
	}
	found := map[string]event{}
	for line := range strings.Lines(console.String()) {
		var e event
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		require.NotContains(t, found, e.Input.Subject.ID, "one event a decision")
		require.Equal(t, "s1", e.Labels["id"])
		require.NotEmpty(t, e.DecisionID)
		require.Equal(t, e.Input.Subject.ID == "mia", e.Result.Decision)
		require.Equal(t, strings.HasPrefix(e.Input.Subject.ID, "embedded"), e.RequestedBy == "", line)
		found[e.Input.Subject.ID] = e
	}
	require.Len(t, found, 9)
	for _, subject := range []string{"single", "batch-1", "batch-2", "data", "mia", "socket", "envoy", "embedded-1", "embedded-2"} {
		require.Contains(t, found, subject)
	}
	for _, subject := range []string{"single", "batch-1", "data"} {
		require.Equal(t, subject, found[subject].Input.Context["door"])
	}
	require.Equal(t, "r-1", found["single"].Custom["x_request_id"])
	require.Equal(t, "r-2", found["envoy"].Custom["x_request_id"])
}
