// Package rest is usher's REST API under /v1: accounts and what they share, by
// the contract of api.md.
//
// # What happens to a request
//
//	bearer token ─▶ scope ─▶ acting as ─▶ parameters ─▶ right on the account
//	  401           403      400, 403      400, 404, 422   403, 404
//	      ─▶ body, strictly decoded ─▶ handler ─▶ store or engine ─▶ answer
//	         400, 413, 415             422, 409, 412, 404, 503
//
// huma declares the operations: their parameters, answers and the OpenAPI
// document come from the Go types that serve. Bodies are read here and not by
// huma, by a decoder that refuses what api.md refuses (unknown and duplicate
// keys, names in other case, invalid UTF-8), each with the place where it stands;
// the rules of the domain are those of package policies, and nothing here repeats them.
//
// Handlers return (answer, error). One function, [FromError], turns every error
// into application/problem+json; its types stand in one table, [Problems].
//
// # Which data an answer comes from
//
// Most reads go to PostgreSQL. What the engine answers (permissions,
// collaborators, load alerts) waits until the engine has every revision that this
// process has acknowledged, and the one that the caller demands. So a read is never
// older than a write that was answered here.
package rest
