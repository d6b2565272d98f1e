package server_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/usher-authz/usher/authz/envoy"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// dataAnswer is what a client of OPA's Data API reads.
type dataAnswer struct {
	Result     jsontext.Value   `json:"result"`
	DecisionID string           `json:"decision_id"`
	Metrics    map[string]int64 `json:"metrics"`
	Warning    *dataFault       `json:"warning"`
}

type dataFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (a answer) data(t *testing.T) (d dataAnswer) {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal(a.body, &d, json.RejectUnknownMembers(true)))
	return d
}

// TestData: the Data API has the decision of the check API, byte for byte, and its
// boolean.
func TestData(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	ask := `{` + mia + `,"action":{"name":"acme.Say"},` + onE + `,"context":{"explain":true}}`
	want := door.post(t, server.PathEvaluation, ask)
	for name, path := range map[string]string{
		"as it is":                    "/v1/data/usher/authz/decision",
		"as npm's client escapes it":  "/v1/data/usher%2Fauthz%2Fdecision",
		"with a slash at the end":     "/v1/data/usher/authz/decision/",
		"with parameters it may have": "/v1/data/usher/authz/decision?explain=off&strict-builtin-errors&provenance=false",
	} {
		got := door.post(t, path, `{"input":`+ask+`}`).data(t)
		require.Equal(t, string(want.body), string(got.Result), name)
		require.NoError(t, uuid.Validate(got.DecisionID))
		require.Nil(t, got.Metrics)
		require.Nil(t, got.Warning)
	}
	for path, want := range map[string]string{
		"allow":                           `true`,
		"decision/decision":               `true`,
		"decision/context/reason":         `"granted"`,
		"decision/context/roles/0":        `"Rôle \"R\" <b>"`,
		"decision/context/levels/base":    `[]`,
		"decision/context/roles/1":        ``,
		"decision/context/roles/x":        ``,
		"decision/context/nothing":        ``,
		"decision/context/reason/further": ``,
		"allow/further":                   ``,
	} {
		require.Equal(t, want, string(door.post(t, "/v1/data/usher/authz/"+path, `{"input":`+ask+`}`).data(t).Result), path)
	}
	for _, undefined := range []string{"", "usher/authz", "usher/authz/effective", "usher/authz/decisions", "usher/accounts", "system"} {
		require.JSONEq(t, `{}`, string(door.post(t, "/v1/data/"+undefined, `{"input":`+ask+`}`).body), undefined)
	}
	got := door.post(t, "/v1/data/usher/authz/allow?metrics&pretty=true", `{"other":[1],"input":`+ask+`}`)
	require.Positive(t, got.data(t).Metrics["timer_server_handler_ns"])
	require.True(t, strings.HasPrefix(string(got.body), "{\n  \"decision_id\": "), "%s", got.body)
	// OPA takes JSON under any name.
	require.Equal(t, "true", string(door.post(t, "/v1/data/usher/authz/allow", `{"input":`+ask+`}`, "Content-Type", "").data(t).Result))
}

// TestDataWithoutAQuestion: what is no request is denied, as Rego denies it.
func TestDataWithoutAQuestion(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	const denied = `{"decision":false,"context":{"reason":"invalid_request","revision":7}}`
	for _, body := range []string{
		`{"input":{}}`, `{"input":null}`, `{"input":[]}`, `{"input":7}`, `{"input":{` + mia + `,` + start + `}}`,
		`{"input":{` + mia + `,` + start + `,` + onE + `,"context":{"min_revision":-1}}}`,
	} {
		got := door.post(t, "/v1/data/usher/authz/decision", body).data(t)
		require.JSONEq(t, denied, string(got.Result), body)
		require.Nil(t, got.Warning)
		require.Equal(t, "false", string(door.post(t, "/v1/data/usher/authz/allow", body).data(t).Result), body)
	}
	for _, body := range []string{``, `{}`, `{"Input":{}}`} {
		got := door.post(t, "/v1/data/usher/authz/decision", body).data(t)
		require.JSONEq(t, denied, string(got.Result))
		require.Equal(t, &dataFault{"api_usage_warning", "'input' key missing from the request"}, got.Warning)
	}
	open := open(t, newAPI(t, newEngine(t, newState(t, company(t)), now), nil), server.Listener{Auth: server.AuthNone})
	require.JSONEq(t, denied, string(open.get(t, "/v1/data/usher/authz/decision").data(t).Result))
	got := open.get(t, "/v1/data/usher/authz/allow?input="+strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(whole))
	require.Equal(t, "true", string(got.data(t).Result))
}

// TestDataFaults: errors have OPA's form, and its codes where it has one.
func TestDataFaults(t *testing.T) {
	t.Parallel()
	door := openState(t, newState(t, company(t)))
	fault := func(got answer, status int) dataFault {
		require.Equal(t, status, got.status, "%s", got.body)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		var f dataFault
		require.NoError(t, json.Unmarshal(got.body, &f, json.RejectUnknownMembers(true)))
		require.NotEmpty(t, f.Message)
		return f
	}
	const path = "/v1/data/usher/authz/allow"
	for _, body := range []string{`{"input":`, `[]`, `7`, `{"input":{},"input":{}}`, `{} {}`, `{"input":{"subject":{},"subject":{}}}`} {
		require.Equal(t, "invalid_parameter", fault(door.post(t, path, body), http.StatusBadRequest).Code, body)
	}
	require.Equal(t, "invalid_parameter", fault(door.post(t, path, `{}`, "Content-Encoding", "gzip"), http.StatusBadRequest).Code)
	require.Equal(t, "invalid_parameter", fault(door.post(t, path, `{"x":"`+strings.Repeat("x", policies.MaxBodyBytes)+`"}`), http.StatusRequestEntityTooLarge).Code)
	got := door.post(t, path, `{}`, "Authorization", "")
	require.Equal(t, "unauthorized", fault(got, http.StatusUnauthorized).Code)
	require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
	require.Equal(t, "unauthorized", fault(door.post(t, path, `{}`, "Authorization", "Bearer "+bundlesToken), http.StatusForbidden).Code)
	late := door.post(t, path, `{"input":{`+mia+`,`+start+`,`+onE+`,"context":{"min_revision":8}}}`)
	require.Equal(t, "unavailable", fault(late, http.StatusServiceUnavailable).Code)
	require.NotEmpty(t, late.header.Get("Retry-After"))
	require.Equal(t, "unavailable", fault(door.post(t, path, `{}`, "Usher-Min-Revision", "8"), http.StatusServiceUnavailable).Code)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, door.url+path, http.NoBody)
	require.NoError(t, err)
	require.Equal(t, "method_not_allowed", fault(door.send(t, r), http.StatusMethodNotAllowed).Code)
}

// TestHealthAsOPA: ?bundles asks whether there is something to answer from.
func TestHealthAsOPA(t *testing.T) {
	t.Parallel()
	for _, ready := range []bool{false, true} {
		mux := http.NewServeMux()
		server.Health{Ready: func() server.Readiness { return server.Readiness{Ready: ready, Reason: "why"} }, Gatherer: prometheus.NewRegistry()}.Mount(mux)
		for query, asks := range map[string]bool{"": false, "?bundles=false": false, "?bundles": true, "?plugins&bundles=true": true} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/health"+query, http.NoBody)
			require.NoError(t, err)
			want := http.StatusOK
			if asks && !ready {
				want = http.StatusInternalServerError
			}
			require.Equal(t, want, record(mux, r).Code, query)
		}
	}
}

// askEnvoy opens the door for Envoy, and gives how it is asked by headers.
func askEnvoy(t *testing.T, api *server.API, mapping *routes.Routes) func(map[string]string) *authv3.CheckResponse {
	t.Helper()
	door, err := envoy.NewServer(envoy.Options{
		API: api, Routes: mapping, Auth: server.AuthNone, Ready: func() server.Readiness { return server.Readiness{Ready: true} },
	})
	require.NoError(t, err)
	const buffer = 1 << 16
	listener := bufconn.Listen(buffer)
	var serving sync.WaitGroup
	serving.Go(func() { _ = door.Serve(listener) })
	connection, err := grpc.NewClient("passthrough:///envoy", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = connection.Close()
		door.Stop()
		serving.Wait()
	})
	client := authv3.NewAuthorizationClient(connection)
	return func(headers map[string]string) *authv3.CheckResponse {
		answer, err := client.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/", Headers: headers}},
		}})
		require.NoError(t, err)
		return answer
	}
}

// reasonTo is the reason that Envoy is told.
func reasonTo(answer *authv3.CheckResponse) string {
	for _, h := range append(answer.GetOkResponse().GetHeaders(), answer.GetDeniedResponse().GetHeaders()...) {
		if h.GetHeader().GetKey() == "usher-reason" {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

// TestEveryDoorAgrees: over random worlds, the Data API has the check API's decision,
// forward-auth and Envoy let through what it allows, and a search finds it. A stock
// OPA's is held against it in admin/bundles.
func TestEveryDoorAgrees(t *testing.T) {
	t.Parallel()
	mapping, err := routes.Parse([]byte(`
subject: "{header:X-Subject}"
routes:
  - {path: "/", action: "{header:X-Action}", resource: {type: environment, id: "{header:X-Id}"}}`))
	require.NoError(t, err)
	for range 5 {
		seed := rand.Uint64()
		dice := policiestest.SeededDice(seed)
		world, err := policiestest.NewWorld(dice, now)
		require.NoError(t, err)
		engine := newEngine(t, newState(t, world.Documents...), now)
		api, err := server.New(server.Options{Decider: engine, Searcher: engine, Routes: mapping})
		require.NoError(t, err)
		door := open(t, api, server.Listener{Auth: server.AuthNone})
		byEnvoy := askEnvoy(t, api, mapping)
		for range 40 {
			q := world.Question(dice)
			body := evaluation(t, q, "")
			want := door.post(t, server.PathEvaluation, body)
			got := door.post(t, "/v1/data/usher/authz/decision", `{"input":`+body+`}`).data(t)
			require.Equal(t, string(want.body), string(got.Result), "seed %d: %+v", seed, q)

			found := door.post(t, server.PathResources, body).found(t)
			require.Equal(t, want.decision(t).Decision, slices.ContainsFunc(found.Results, func(r result) bool { return r.ID == q.ResourceID }), "seed %d: %+v", seed, q)

			if q.SubjectType != "account" || q.ResourceType != "environment" || strings.ContainsFunc(q.Subject+q.Action+q.ResourceID, func(r rune) bool { return r <= ' ' }) ||
				q.Subject == "" || q.Action == "" || q.ResourceID == "" {
				continue
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.PathForward, http.NoBody)
			require.NoError(t, err)
			for name, value := range map[string]string{
				"X-Original-Method": "GET", "X-Original-URI": "/", "X-Subject": q.Subject, "X-Action": q.Action, "X-Id": q.ResourceID,
			} {
				r.Header.Set(name, value)
			}
			mux := http.NewServeMux()
			require.NoError(t, api.Mount(mux, server.Listener{Auth: server.AuthNone}))
			forwarded := record(mux, r)
			require.Equal(t, want.decision(t).Decision, forwarded.Code == http.StatusOK, "seed %d: %+v", seed, q)
			require.Equal(t, string(want.decision(t).Context.Reason), forwarded.Header().Get("Usher-Reason"))

			answered := byEnvoy(map[string]string{"x-subject": q.Subject, "x-action": q.Action, "x-id": q.ResourceID})
			require.Equal(t, want.decision(t).Decision, answered.GetStatus().GetCode() == int32(codes.OK), "seed %d: %+v", seed, q)
			require.Equal(t, string(want.decision(t).Context.Reason), reasonTo(answered))
		}
	}
}
