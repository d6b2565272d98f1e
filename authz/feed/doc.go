// Package feed is how a sidecar comes by the state of the platform, and stays at
// it: the wire format of the feed, which the admin's feed server writes, and the
// client that follows it.
//
// # The stream
//
// GET /v1/feed answers with one long response of type application/x-ndjson: a
// frame a line, each a JSON object whose first member is its type. A resident
// sidecar holds the whole platform, one on demand only learns what changed:
//
//	mode=resident                            mode=notices
//	heartbeat (first of all)                 heartbeat
//	snapshot, object …, snapshot_end   (1)   snapshot, object …, snapshot_end  (2)
//	change, seal, heartbeat, change …        notice, seal, heartbeat, notice …
//
//	(1) the whole platform, unless the asker named a revision and a chain hash
//	    that the log has and that is not too far behind;
//	(2) the policy in force and the tokens, under the same condition. Then come
//	    the notices since the snapshot's after, which lies behind the snapshot, so
//	    that a sidecar with a warm Redis learns which of its entries still hold.
//
// A heartbeat comes first and then every second, within a snapshot too. It names
// the server's present revision and time. A snapshot may come again at any place:
// a server gives it to an asker that has fallen too far behind.
//
// # The client's states
//
//	          ┌────────────── pause, with jitter ◀─────────────┐
//	          ▼                                                │ any fault:
//	start ▶ connecting ──200──▶ following ──snapshot──▶ building  ended, silent,
//	                             │  ▲  ▲                  │       refused
//	                  change, ───┘  │  └──snapshot_end────┘
//	                  notice,       │    (counted, digest right,
//	                  heartbeat ────┘     revision not behind: swapped in)
//
// What is being built stands to the side. It replaces the state only when it is
// whole, and a connection that ends in the middle leaves nothing behind.
//
// # Guarantees
//
//   - A change is applied only if it is the next one and its hash follows from the
//     one before (policies.Change.Follows). A change that was altered, left out,
//     moved or repeated is refused.
//   - A snapshot is swapped in only if its count and its digest (SHA-256 of its
//     lines, as sent) are right and its revision is not behind the state's within
//     the epoch, nor its epoch behind the state's. A later epoch drops everything.
//   - Another platform's snapshot is refused.
//   - On every refusal the last good state stays, the refusal is counted by kind and
//     logged, and the client connects anew. If the sink could not apply what it was
//     given, the next connection asks for a snapshot.
//   - Lines are bounded by type before they are buffered; a frame of unknown type is
//     refused, a member of unknown name is ignored.
//   - A stream of heartbeats that name a later revision, without what leads there for
//     as long, is refused: nobody can hold the last changes back unnoticed.
//   - No heartbeat for three seconds of waiting means that the connection is dead,
//     however alive TCP believes it to be. The time that a sink takes is not counted.
//
// # Reports
//
// A client that has a name (Self) tells the server by POST /v1/feed/report which
// revision it has applied: soon after each, and every few seconds. So whoever made a
// change can wait until it is in force everywhere. A report that fails changes nothing
// else.
//
// # Signatures
//
// A server with keys signs: each heartbeat, for the connection's nonce; the end of a
// snapshot; changes and notices, by a seal frame after one or a few of them; answers
// to look-ups and searches. A client with keys uses nothing before it is verified, and so:
//
//   - what was altered or made on the way is refused as unsigned or forged;
//   - what was recorded is refused as replayed: the nonce is new for each connection;
//   - who holds heartbeats back is found out by the time that they name.
//
// A client without keys trusts the connection, which must be TLS or loopback then.
// The chain alone does not cover the time of a change, the names in a notice, and who
// wrote a snapshot.
package feed
