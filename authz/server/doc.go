// Package server is the check API over HTTP: AuthZEN's evaluation and evaluations
// on any [authz.Decider], with who may ask, metadata, health and metrics. The
// sidecar and the admin server mount the same handlers.
//
//	request ──▶ X-Request-ID, panics ──▶ token ──▶ decode ──▶ Decider ──▶ encode
//	                                      401,403    400,413    503          200
//
// # Faults and denials
//
// A fault of the request is a 4xx, and never a decision; a decision is a 200,
// whatever it says; an error inside is a 5xx, and never an allow. In a batch a faulty
// item is denied with the reason invalid_request, and what is wrong at the top
// level or in the JSON itself is a 400 for the whole. Ids and names that usher
// could never have are unknown, which is a denial.
//
// Everything here may be used from any number of goroutines.
package server
