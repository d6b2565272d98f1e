package envoy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statusv1 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/routes"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// Where Envoy puts the claims of the token that it has verified.
const (
	claimsFilter = "envoy.filters.http.jwt_authn"
	claimsName   = "usher"
)

// authorization is envoy.service.auth.v3.Authorization.
type authorization struct{ *door }

var _ authv3.AuthorizationServer = (*authorization)(nil)

// Check answers Envoy for the request that it is about to hand on.
func (a *authorization) Check(ctx context.Context, asked *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	from := asked.GetAttributes().GetRequest().GetHttp()
	if from.GetMethod() == "" || from.GetPath() == "" {
		return nil, &policies.MalformedError{Where: "attributes.request.http", Reason: "there is no HTTP request to check"}
	}
	sent := headers(from)
	match, err := a.options.Routes.Match(&routes.Request{
		Method: from.GetMethod(), Target: from.GetPath(), Header: sent, Claims: claims(asked),
		Address: asked.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(),
	})
	var denied *routes.DeniedError
	switch {
	case errors.As(err, &denied):
		return denial(denied.Status, denied.Reason, nil), nil
	case err != nil:
		return nil, err
	case match.Public:
		return &authv3.CheckResponse{Status: &statusv1.Status{Code: int32(codes.OK)}}, nil
	}
	match.Question.Request = &authz.Request{Context: match.Context, ID: from.GetHeaders()["x-request-id"], RemoteAddr: caller(ctx)}
	least, err := server.DemandedBy(sent)
	if err != nil {
		return nil, err
	}
	decision, err := a.options.API.Ask(ctx, least, match.Question)
	var late *authz.RevisionError
	if errors.As(err, &late) {
		// 503, as at the other doors; of a gRPC error Envoy would make a 403.
		return denial(http.StatusServiceUnavailable, late.Error(), nil), nil
	}
	if err != nil {
		return nil, err
	}
	described := options(server.Describe(&match.Question, &decision))
	if !decision.Allow {
		return denial(http.StatusForbidden, routes.Denial(&match.Question, &decision), described), nil
	}
	return &authv3.CheckResponse{
		Status:       &statusv1.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: described}},
	}, nil
}

// caller is the address of who asks: of Envoy.
func caller(ctx context.Context) string {
	if from, ok := peer.FromContext(ctx); ok {
		return from.Addr.String()
	}
	return ""
}

// headers are those of the request by their canonical names. Envoy joins several of
// one name by commas, which no id contains.
func headers(from *authv3.AttributeContext_HttpRequest) http.Header {
	made := make(http.Header, len(from.GetHeaders()))
	for name, value := range from.GetHeaders() {
		name = http.CanonicalHeaderKey(name)
		made[name] = append(made[name], value)
	}
	for _, header := range from.GetHeaderMap().GetHeaders() {
		name := http.CanonicalHeaderKey(header.GetKey())
		value := header.GetValue()
		if value == "" {
			value = string(header.GetRawValue())
		}
		made[name] = append(made[name], value)
	}
	return made
}

// claims are those that Envoy has verified.
func claims(asked *authv3.CheckRequest) map[string]any {
	verified := asked.GetAttributes().GetMetadataContext().GetFilterMetadata()[claimsFilter]
	return verified.GetFields()[claimsName].GetStructValue().AsMap()
}

// options are headers that replace what the request or the answer had of that name.
func options(from map[string]string) []*corev3.HeaderValueOption {
	var made []*corev3.HeaderValueOption
	for _, name := range slices.Sorted(maps.Keys(from)) {
		made = append(made, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: strings.ToLower(name), Value: from[name]},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return made
}

// denial tells Envoy to answer with a status and a text for people.
func denial(code int, text string, described []*corev3.HeaderValueOption) *authv3.CheckResponse {
	answer := codes.PermissionDenied
	switch code {
	case http.StatusUnauthorized:
		answer = codes.Unauthenticated
		described = append(described, options(map[string]string{"WWW-Authenticate": "Bearer"})...)
	case http.StatusServiceUnavailable:
		answer = codes.Unavailable
		described = append(described, options(map[string]string{"Retry-After": "1"})...)
	}
	return &authv3.CheckResponse{
		Status: &statusv1.Status{Code: int32(answer), Message: text},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(code)},
			Headers: append(options(map[string]string{"Content-Type": "text/plain; charset=utf-8"}), described...),
			Body:    strings.ToValidUTF8(text, "\uFFFD"),
		}},
	}
}
