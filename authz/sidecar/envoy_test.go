package sidecar_test

import (
	"os"
	"path/filepath"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/sidecar"
)

// TestEnvoy: one more door to the same decisions, on TCP and on a Unix socket, with
// the life of the sidecar.
func TestEnvoy(t *testing.T) {
	t.Parallel()
	mapping, err := routes.Parse([]byte(`
subject: "{header:X-Account}"
routes:
  - {path: "/e/{id}", action: environment.control.GetEnvInfo, resource: {type: environment, id: "{id}"}}`))
	require.NoError(t, err)
	dir := t.TempDir()
	bundle, socket := filepath.Join(dir, "b"), filepath.Join(dir, "envoy")
	write(t, bundle, bundleOf(t, 3, company(t)))
	s := start(t, sidecar.Options{Bundle: bundle, Routes: mapping, EnvoyListen: "127.0.0.1:0", EnvoySocket: socket, SocketMode: 0o640, Socket: filepath.Join(dir, "http")})
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	asked := func(account string) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
			Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/e/e", Headers: map[string]string{"x-account": account}},
		}}}
	}
	for _, target := range []string{s.EnvoyAddr().String(), "unix://" + socket} {
		connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer connection.Close()
		client := authv3.NewAuthorizationClient(connection)
		for account, want := range map[string]codes.Code{"mia": codes.OK, "olga": codes.OK, "nobody": codes.PermissionDenied} {
			got, err := client.Check(t.Context(), asked(account))
			require.NoError(t, err)
			require.Equal(t, int32(want), got.GetStatus().GetCode(), account)
		}
	}
	require.Equal(t, 4, counter(t, call(t, "http://usher", bySocket(filepath.Join(dir, "http"))), `usher_server_decisions_total{outcome="allow",reason="granted"}`)+
		counter(t, call(t, "http://usher", bySocket(filepath.Join(dir, "http"))), `usher_server_decisions_total{outcome="allow",reason="owner"}`))

	// Where tokens are known they are asked for.
	admin := serveFeed(t, company(t))
	withTokens := start(t, sidecar.Options{AdminURL: admin.web.URL, Token: adminToken, Routes: mapping, EnvoyListen: "127.0.0.1:0"})
	connection, err := grpc.NewClient(withTokens.EnvoyAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer connection.Close()
	eventually(t, func() bool { return withTokens.Ready().Ready }, "ready")
	_, err = authv3.NewAuthorizationClient(connection).Check(t.Context(), asked("mia"))
	require.Equal(t, codes.Unauthenticated, status.Code(err))

	for want, o := range map[string]sidecar.Options{
		"give --routes":              {AdminURL: "http://a", Listen: "127.0.0.1:0", EnvoyListen: "127.0.0.1:0"},
		"cannot share":               {AdminURL: "http://a", Socket: "s", EnvoySocket: "s", Routes: mapping},
		"is not HOST:PORT":           {AdminURL: "http://a", Socket: "s", EnvoyListen: "x", Routes: mapping},
		"is beyond loopback":         {AdminURL: "http://a", Socket: "s", EnvoyListen: "0.0.0.0:1", Routes: mapping},
		"everybody could ask on":     {Bundle: "b", Socket: "s", EnvoyListen: "0.0.0.0:1", Routes: mapping},
		"there is nothing to listen": {AdminURL: "http://a", EnvoyListen: "127.0.0.1:0", Routes: mapping},
	} {
		_, err := sidecar.New(o)
		require.ErrorContains(t, err, want)
	}
}
