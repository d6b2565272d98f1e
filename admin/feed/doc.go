// Package feed serves the feed to sidecars: GET /v1/feed, the stream, and POST
// /v1/feed/lookup, the parts of the state that a sidecar on demand lacks. The wire
// format, and what the other end makes of it, is told in authz/feed.
//
// # Pulling, not pushing
//
//	log ──one goroutine──▶ ring of the last changes, each encoded and compressed once
//	                         │ pull     │ pull        │ pull
//	                     sidecar A  sidecar B     sidecar C, behind the ring:
//	                                                ├─ not far: the log itself
//	                                                └─ far, or of another history: a snapshot
//
// Each connection has a place in history of its own and takes from there what its
// reader can take. Nothing is pushed and nothing is queued for it, so that a reader
// that is slow, or does not read at all, costs its own buffers and nobody's time. A
// write that makes no progress until its deadline ends the connection.
//
// # What a place is good for
//
// A place is (revision, chain hash). It is in our history if the next change in the
// ring or in the log follows from it, which the hash proves, or if it is the present
// one. A place that is not is answered by a snapshot. A place ahead of this replica
// waits a moment for the replica to catch up, and is then sent away with 503.
//
// # A new epoch
//
// Where the changes in the log do not follow from the ring, the history behind the
// ring is gone (the database was restored). The ring is emptied and begins again at
// the source's present state, and every stream whose place does not lie in it gets a
// snapshot.
package feed
