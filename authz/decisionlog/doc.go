// Package decisionlog writes down the decisions of a sidecar, in the format of
// OPA's decision log, so that whatever takes OPA's takes usher's: each event has an
// id, the revision, the AuthZEN request as input, the answer as result, and how long
// the decision took.
//
//	Decider ◀── check ── any front door
//	   │ decision
//	   ▼
//	 sampling ──▶ ring ──▶ encode ─▶ drop and mask rules ─▶ console
//	 (allows only) (bounded)         (Rego)               ─▶ file, with rotation
//	                                                      ─▶ queue ─▶ gzip, POST, again
//	                                                         (bounded)
//
// The check pays for a copy into the ring and for nothing else: it never waits, and
// never fails because of the log. When the ring is full, because what comes after it
// is too slow, new events are dropped and counted; so is everything else that is lost
// (usher_decision_log_dropped_total, by reason). Denials are never left out by
// sampling.
//
// # Rules
//
// Rego in package system.log, as OPA has it: drop is true for events that are not to
// be written; mask has the JSON pointers of what is to be removed from input or
// result, as strings or as objects {"op": "remove" or "upsert", "path", "value"}. An
// event whose rules fail is not written: it might hold what they were to take out.
//
// # Guardrails
//
// What they read stands in the input. Why they deny stands in the result; why those that
// only observe would have, in custom.observed.
//
// # What is not in the log
//
// Context and properties of more than 16 KiB, which are named in erased; what is longer
// than any id is cut.
//
// Items of a batch that are no question (invalid_request), requests that are
// answered with an error, and searches.
package decisionlog
