package envoy_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/envoy"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// api allows mia what is on e, and fails as it is told to.
type api struct{ err error }

func (a api) Ask(_ context.Context, least policies.Revision, q authz.Question) (authz.Decision, error) {
	if least > 7 {
		return authz.Decision{}, &authz.RevisionError{Want: least, Have: 7}
	}
	if q.ResourceID == "panic" {
		panic(q) //nolint:forbidigo // it is what is tested
	}
	if q.ResourceID == "guarded" { // and says what it was told
		return authz.Decision{Reason: policies.ReasonGuardrail, Guardrail: []string{string(q.Request.Context)}, Revision: 7}, a.err
	}
	if q.Subject == "mia" && q.ResourceID == "e" && q.Action == "acme.Say" && q.ResourceType == "environment" {
		return authz.Decision{Allow: true, Reason: policies.ReasonGranted, Owner: "olga", Revision: 7}, a.err
	}
	return authz.Decision{Reason: policies.ReasonNotShared, Owner: "olga", Revision: 7}, a.err
}

func (a api) Admit(authorization []string) error {
	if len(authorization) == 1 && authorization[0] == "Bearer good" {
		return nil
	}
	return server.ErrUnauthorized
}

const mapping = `
subject: "{claim:sub}"
context: {ticket: "{header:X-Ticket}", team: "{claim:team}"}
routes:
  - {methods: [GET], path: "/e/{id}", action: acme.Say, resource: {type: environment, id: "{id}"}}
  - {methods: [POST], path: "/e/{id}", subject: "{header:X-Account}", action: acme.Say, resource: {type: environment, id: "{id}"}}
  - {path: "/open", public: true}
`

// dial serves a door and connects to it.
func dial(t *testing.T, o envoy.Options) *grpc.ClientConn {
	t.Helper()
	made, err := routes.Parse([]byte(mapping))
	require.NoError(t, err)
	o.Routes = made
	if o.Ready == nil {
		o.Ready = func() server.Readiness { return server.Readiness{Ready: true} }
	}
	door, err := envoy.NewServer(o)
	require.NoError(t, err)
	on, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- door.Serve(on) }()
	connection, err := grpc.NewClient(on.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, connection.Close())
		door.Stop()
		require.NoError(t, <-served)
	})
	return connection
}

// asked is what Envoy sends about a request; sub is a claim that it has verified.
func asked(t *testing.T, method, path, sub string, headers map[string]string) *authv3.CheckRequest {
	t.Helper()
	request := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Headers: headers},
	}}}
	if sub != "" {
		claims, err := structpb.NewStruct(map[string]any{"usher": map[string]any{"sub": sub, "exp": 7}})
		require.NoError(t, err)
		request.Attributes.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.jwt_authn": claims}}
	}
	return request
}

func headersOf(options []*corev3.HeaderValueOption) map[string]string {
	made := map[string]string{}
	for _, option := range options {
		made[option.GetHeader().GetKey()] = option.GetHeader().GetValue()
	}
	return made
}

// TestCheck: what Envoy is told, and what it hands on.
func TestCheck(t *testing.T) {
	t.Parallel()
	client := authv3.NewAuthorizationClient(dial(t, envoy.Options{API: api{}, Auth: server.AuthNone}))
	for name, request := range map[string]*authv3.CheckRequest{
		"a claim":  asked(t, "GET", "/e/e?x=1", "mia", nil),
		"a header": asked(t, "POST", "/e/e", "", map[string]string{":path": "/x", "x-account": "mia"}),
	} {
		got, err := client.Check(t.Context(), request)
		require.NoError(t, err, name)
		require.Equal(t, int32(codes.OK), got.GetStatus().GetCode(), name)
		require.Equal(t, map[string]string{"usher-subject": "mia", "usher-owner": "olga", "usher-reason": "granted", "usher-revision": "7"},
			headersOf(got.GetOkResponse().GetHeaders()), name)
		for _, option := range got.GetOkResponse().GetHeaders() {
			require.Equal(t, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, option.GetAppendAction(), "what a client sends is replaced")
		}
	}
	raw := asked(t, "POST", "/e/e", "", nil)
	raw.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "x-account", RawValue: []byte("mia")}}}
	got, err := client.Check(t.Context(), raw)
	require.NoError(t, err)
	require.Equal(t, int32(codes.OK), got.GetStatus().GetCode())
	got, err = client.Check(t.Context(), asked(t, "GET", "/open", "", nil))
	require.NoError(t, err)
	require.Equal(t, int32(codes.OK), got.GetStatus().GetCode())

	denied := func(request *authv3.CheckRequest, code codes.Code, http int32, text string) map[string]string {
		got, err := client.Check(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, int32(code), got.GetStatus().GetCode())
		require.Nil(t, got.GetOkResponse())
		require.Equal(t, http, int32(got.GetDeniedResponse().GetStatus().GetCode()))
		require.Contains(t, got.GetDeniedResponse().GetBody(), text)
		return headersOf(got.GetDeniedResponse().GetHeaders())
	}
	headers := denied(asked(t, "GET", "/e/f", "mia", nil), codes.PermissionDenied, 403, "mia may not do acme.Say on the environment f: not_shared.")
	require.Equal(t, "not_shared", headers["usher-reason"])
	require.Equal(t, "text/plain; charset=utf-8", headers["content-type"])
	denied(asked(t, "GET", "/e/e", "nemo", nil), codes.PermissionDenied, 403, "nemo")
	denied(asked(t, "DELETE", "/e/e", "mia", nil), codes.PermissionDenied, 403, "No route")
	denied(asked(t, "GET", "/open/../e/e", "mia", nil), codes.PermissionDenied, 403, "more than one way")
	got, err = client.Check(t.Context(), asked(t, "GET", "/e/e", "mia", map[string]string{"usher-min-revision": "7"}))
	require.NoError(t, err)
	require.NotNil(t, got.GetOkResponse())
	headers = denied(asked(t, "GET", "/e/e", "mia", map[string]string{"usher-min-revision": "8"}), codes.Unavailable, 503, "8")
	require.Equal(t, "1", headers["retry-after"])
	_, err = client.Check(t.Context(), asked(t, "GET", "/e/e", "mia", map[string]string{"usher-min-revision": "7,8"}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	headers = denied(asked(t, "GET", "/e/e", "", map[string]string{"x-account": "mia", "sub": "mia"}), codes.Unauthenticated, 401, "who is asking")
	require.Equal(t, "Bearer", headers["www-authenticate"])
	// A claim under any other name is not one that was verified for usher.
	other := asked(t, "GET", "/e/e", "mia", nil)
	fields := other.GetAttributes().GetMetadataContext().GetFilterMetadata()["envoy.filters.http.jwt_authn"].GetFields()
	fields["payload"] = fields["usher"]
	delete(fields, "usher")
	denied(other, codes.Unauthenticated, 401, "who is asking")
	_, err = client.Check(t.Context(), &authv3.CheckRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// TestContext: guardrails read where the request came from and what the mapping names,
// and the denial says why.
func TestContext(t *testing.T) {
	t.Parallel()
	client := authv3.NewAuthorizationClient(dial(t, envoy.Options{API: api{}, Auth: server.AuthNone}))
	request := asked(t, "GET", "/e/guarded?ticket=1", "mia", map[string]string{"x-ticket": "OPS-1", "x-forwarded-for": "10.9.9.9"})
	request.Attributes.Source = &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{Address: "10.0.0.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 7}},
	}}}
	got, err := client.Check(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, `mia may not do acme.Say on the environment guarded: {"address":"10.0.0.7","method":"GET","path":"/e/guarded","ticket":"OPS-1"}.`,
		got.GetDeniedResponse().GetBody())
}

// TestErrorsAreNeverAnAllow, nor do they tell their cause.
func TestErrorsAreNeverAnAllow(t *testing.T) {
	t.Parallel()
	for code, err := range map[codes.Code]error{
		codes.Unavailable: &authz.UnavailableError{Reason: "no state"},
		codes.Internal:    errors.New("the cause"),
	} {
		client := authv3.NewAuthorizationClient(dial(t, envoy.Options{API: api{err}, Auth: server.AuthNone}))
		got, err := client.Check(t.Context(), asked(t, "GET", "/e/e", "mia", nil))
		require.Nil(t, got)
		require.Equal(t, code, status.Code(err))
		require.NotContains(t, err.Error(), "the cause")
	}
	client := authv3.NewAuthorizationClient(dial(t, envoy.Options{API: api{}, Auth: server.AuthNone}))
	_, err := client.Check(t.Context(), asked(t, "GET", "/e/panic", "mia", nil))
	require.Equal(t, codes.Internal, status.Code(err))
	_, err = client.Check(t.Context(), asked(t, "GET", "/e/e", "mia", nil))
	require.NoError(t, err, "a panic ends one call")
}

// TestWho: a token is needed for all but the probe.
func TestWho(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	connection := dial(t, envoy.Options{API: api{}, Auth: server.AuthToken, Ready: func() server.Readiness { return server.Readiness{Ready: ready.Load()} }})
	client := authv3.NewAuthorizationClient(connection)
	for _, pairs := range [][]string{nil, {"authorization", "Bearer bad"}, {"authorization", "Bearer good", "authorization", "Bearer good"}} {
		_, err := client.Check(metadata.AppendToOutgoingContext(t.Context(), pairs...), asked(t, "GET", "/open", "", nil))
		require.Equal(t, codes.Unauthenticated, status.Code(err))
	}
	good := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer good")
	_, err := client.Check(good, asked(t, "GET", "/open", "", nil))
	require.NoError(t, err)

	probe := healthv1.NewHealthClient(connection)
	health, err := probe.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, health.GetStatus())
	ready.Store(true)
	health, err = probe.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, health.GetStatus())
	_, err = probe.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "other"})
	require.Equal(t, codes.NotFound, status.Code(err))

	stream, err := reflectionv1.NewServerReflectionClient(connection).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

// TestReflection: a client that knows nothing finds the service and its messages.
func TestReflection(t *testing.T) {
	t.Parallel()
	stream, err := reflectionv1.NewServerReflectionClient(dial(t, envoy.Options{API: api{}, Auth: server.AuthNone})).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	listed, err := stream.Recv()
	require.NoError(t, err)
	var names []string
	for _, service := range listed.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	require.Contains(t, names, "envoy.service.auth.v3.Authorization")
	require.Contains(t, names, "grpc.health.v1.Health")
	require.NoError(t, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "envoy.service.auth.v3.Authorization"},
	}))
	found, err := stream.Recv()
	require.NoError(t, err)
	var methods []string
	for _, file := range found.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var described descriptorpb.FileDescriptorProto
		require.NoError(t, proto.Unmarshal(file, &described))
		for _, service := range described.GetService() {
			for _, method := range service.GetMethod() {
				methods = append(methods, service.GetName()+"."+method.GetName())
			}
		}
	}
	require.Contains(t, methods, "Authorization.Check")
	require.NoError(t, stream.CloseSend())
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := envoy.NewServer(envoy.Options{})
	require.ErrorContains(t, err, "needs an API")
}
