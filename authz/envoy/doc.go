// Package envoy is the door for Envoy and what speaks its protocol: the gRPC service
// envoy.service.auth.v3.Authorization, with gRPC's health checks and reflection.
//
//	Envoy ──Check(method, path, headers, claims)──▶ routes ──▶ the decision
//	      ◀── OK and headers, or a denial with a text for people ──
//
// What a request is checked as is the mapping of package routes, the same as for every
// other proxy. Claims are those that Envoy's jwt_authn filter verified and put into the
// dynamic metadata under the name usher (payload_in_metadata: usher); a token itself is
// never looked at.
//
// An error is a gRPC status and never an allow: Envoy denies then, unless its
// failure_mode_allow says otherwise, which it must not.
package envoy
