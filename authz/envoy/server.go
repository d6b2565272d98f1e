package envoy

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// API is what the door leads to; [server.API] is it.
type API interface {
	// Ask answers one question from a revision or a later one, and counts it.
	Ask(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error)
	// Admit tells whether a caller with these values of Authorization may ask.
	Admit(authorization []string) error
}

// Options configures a door. All but Logger are required.
type Options struct {
	API    API
	Routes *routes.Routes
	Auth   server.Auth // what callers need; [server.AuthToken]: a token, in the metadata authorization
	Ready  func() server.Readiness
	Logger *slog.Logger // default: discards
}

// maxStreams bounds the calls that one connection has under way.
const maxStreams = 1000

// NewServer makes a gRPC server with the service, which may be served on any number
// of listeners. More options, such as credentials, are grpc's.
func NewServer(o Options, more ...grpc.ServerOption) (*grpc.Server, error) {
	if o.API == nil || o.Routes == nil || o.Ready == nil || !o.Auth.Valid() {
		return nil, errors.New("a door for Envoy needs an API, routes, readiness and what callers need")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &door{options: o}
	made := grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(policies.MaxBodyBytes), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(policies.MaxHeaderBytes),
		grpc.ChainUnaryInterceptor(d.unary), grpc.ChainStreamInterceptor(d.stream),
	}, more...)...)
	authv3.RegisterAuthorizationServer(made, &authorization{d})
	healthv1.RegisterHealthServer(made, &probe{ready: o.Ready})
	reflection.Register(made)
	return made, nil
}

// door is what all calls pass.
type door struct{ options Options }

// admit lets callers in who have a token where one is needed. Probes need none, as
// over HTTP.
func (d *door) admit(ctx context.Context, method string) error {
	if d.options.Auth == server.AuthNone || method == healthv1.Health_Check_FullMethodName {
		return nil
	}
	values, _ := metadata.FromIncomingContext(ctx)
	return statusOf(d.options.API.Admit(values.Get("authorization")))
}

func (d *door) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer d.recovered(ctx, info.FullMethod, &err)
	if err := d.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	answer, err = next(ctx, request)
	return answer, d.told(ctx, info.FullMethod, err)
}

func (d *door) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer d.recovered(stream.Context(), info.FullMethod, &err)
	if err := d.admit(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(service, stream)
}

// told is err as the caller may know it; what it may not goes to the log.
func (d *door) told(ctx context.Context, method string, err error) error {
	if _, ok := status.FromError(err); ok {
		return err // nil, or the health check's own
	}
	told := statusOf(err)
	if status.Code(told) != codes.Internal {
		return told
	}
	id := rand.Text()
	d.options.Logger.ErrorContext(ctx, "a check failed", "method", method, "trace_id", id, "error", err)
	return status.Error(codes.Internal, "something went wrong inside; the log has it under the trace id "+id)
}

// recovered turns a panic into an error: it is a bug, and never an allow.
func (d *door) recovered(ctx context.Context, method string, err *error) {
	if cause := recover(); cause != nil {
		id := rand.Text()
		d.options.Logger.ErrorContext(ctx, "a check panicked",
			"method", method, "trace_id", id, "panic", cause, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "something went wrong inside; the log has it under the trace id "+id)
	}
}

// statusOf is the one place where an error becomes a gRPC status. What it does not
// know, and what is a status already, is internal or itself.
func statusOf(err error) error {
	var (
		forbidden   *policies.ForbiddenError
		malformed   *policies.MalformedError
		revision    *authz.RevisionError
		unavailable *authz.UnavailableError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, server.ErrUnauthorized):
		return status.Error(codes.Unauthenticated, err.Error())
	case errors.As(err, &forbidden):
		return status.Error(codes.PermissionDenied, forbidden.Reason)
	case errors.As(err, &malformed):
		return status.Error(codes.InvalidArgument, malformed.Error())
	case errors.As(err, &revision):
		return status.Error(codes.Unavailable, revision.Error())
	case errors.As(err, &unavailable):
		return status.Error(codes.Unavailable, unavailable.Reason)
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cut off")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call was cut off")
	default:
		return status.Error(codes.Internal, "something went wrong inside")
	}
}

// probe is gRPC's health check: serving once there is something to answer from.
type probe struct {
	healthv1.UnimplementedHealthServer

	ready func() server.Readiness
}

// Check implements the health service for the server as a whole and for the service.
func (p *probe) Check(_ context.Context, asked *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if name := asked.GetService(); name != "" && name != authv3.Authorization_ServiceDesc.ServiceName {
		return nil, status.Errorf(codes.NotFound, "there is no service %q here", name)
	}
	answer := &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}
	if p.ready().Ready {
		answer.Status = healthv1.HealthCheckResponse_SERVING
	}
	return answer, nil
}
