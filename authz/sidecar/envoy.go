package sidecar

import (
	"context"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/usher-authz/usher/authz/envoy"
	"github.com/usher-authz/usher/authz/server"
)

// listenEnvoy opens the doors for Envoy.
func (s *Sidecar) listenEnvoy(ctx context.Context) error {
	if s.options.EnvoyListen != "" {
		on, err := openTCP(ctx, s.options.EnvoyListen, "--envoy-listen")
		if err != nil {
			return err
		}
		s.envoy = on.Addr()
		var more []grpc.ServerOption
		if s.certificate != nil {
			more = append(more, grpc.Creds(credentials.NewTLS(s.certificate.config())))
		}
		if err := s.addEnvoy(on, s.options.Auth, more...); err != nil {
			return err
		}
	}
	if s.options.EnvoySocket != "" {
		on, err := s.openUnix(ctx, s.options.EnvoySocket)
		if err != nil {
			return err
		}
		return s.addEnvoy(on, server.AuthNone)
	}
	return nil
}

func (s *Sidecar) addEnvoy(on net.Listener, auth server.Auth, more ...grpc.ServerOption) error {
	made, err := envoy.NewServer(envoy.Options{
		API: s.api, Routes: s.options.Routes, Auth: auth, Ready: s.ready, Logger: s.options.Logger,
	}, more...)
	if err != nil {
		_ = on.Close()
		return err
	}
	s.listeners = append(s.listeners, &listener{on, grpcServer{made}})
	return nil
}

// grpcServer is a gRPC server with the life of an HTTP server.
type grpcServer struct{ *grpc.Server }

func (g grpcServer) Serve(on net.Listener) error {
	if err := g.Server.Serve(on); err != nil {
		return err
	}
	return http.ErrServerClosed
}

func (g grpcServer) Shutdown(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g grpcServer) Close() error {
	g.Stop()
	return nil
}

// EnvoyAddr is where Envoy finds the sidecar on TCP, the port chosen if it was 0; nil
// before Start and without.
func (s *Sidecar) EnvoyAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.envoy
}
