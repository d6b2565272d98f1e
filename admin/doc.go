// Package admin is the admin server as a value: New, Start, Addr, Stop. It wires
// the store, the engine that tails it, and what is served by HTTP; it decides
// nothing itself.
//
//	             ┌── /v1/…            admin/rest ────────── store ─┐
//	             ├── /access/v1/…     authz/server ── engine        │
//	listener ────┼── /v1/feed         admin/feed ─────── ▲          ▼
//	             ├── /v1/bundles      admin/bundles ──── │      PostgreSQL
//	             └── /health, /ready, /metrics       tail └── log ──┘
//
// # The tail
//
// One goroutine applies the log to the engine, change by change, in order, each
// verified against the chain of hashes. What this server committed it is handed; what
// others did it reads when the database tells of it, and looks for once a second in any
// case. Where the log does not follow from what the engine
// has (another epoch, a restored database), the engine begins anew with a snapshot.
//
// # What happens on failure
//
// Without PostgreSQL the server stays up: checks, the feed and bundles go on with
// the revision that is there, /ready says 503, reads and writes get 503 with
// Retry-After until it is back, without a hand. A panic is a 500. A server has a limit
// of requests under way; what is beyond is sent away with 503 before anything is read.
//
// # Stopping
//
// Not ready → no new connections → what is in flight → feeds and polls → tail →
// engine → store.
package admin
