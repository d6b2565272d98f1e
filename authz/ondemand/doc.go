// Package ondemand is the engine of a sidecar that does not hold the platform: it
// answers from what it fetches when it is asked, and keeps in bounded memory and in
// a Redis that all sidecars share. Its answers are those of the resident engine,
// each the truth of one revision.
//
//	question ─▶ memory ─▶ Redis ─▶ admin        one flight for each question,
//	              ▲         ▲        │           batches in a few round trips
//	              └─────────┴────────┘ facts
//	feed ─notices─▶ root: policy in force, tokens, revision, index of what was touched
//
// # Facts
//
// All that is kept is a [fact]: what one account may do on one resource
// (permissions), whose a resource is, whether an account exists, an owner's account.
// A fact is dated: it was true at every revision from its first to its last. Nothing
// is ever deleted because it changed; it is only not used any more.
//
//	A fact is used at revision C if it holds at C by its dates, or
//
//	   floor ≤ last ≤ C and no notice in (last, C] names what it rests on
//
// Permissions rest on the owner's account, the subject's existence and the
// resource's; the others on one of these. Notices name accounts that were touched,
// and ids that were made, deleted or moved; [index] remembers which revision last
// touched each, back to its floor. A fact that is used is dated C.
//
//   - A fact older than the floor (after a restart without notices since, or when the
//     index overflowed) is good again if the admin says that the account was left alone
//     since: one look-up an owner, without the account's objects.
//   - A fact of a later revision than the feed has brought waits, within bounds.
//   - "No such id" is a fact like others: the notice that makes the id ends it.
//   - Permissions end by the clock as well. Now is the greater of the clock and the
//     last heartbeat's time, and permissions computed at a later now are not used.
//
// # Answers
//
// A call takes the root once and gathers facts until all are true at that root's
// revision. If something is only known at a later one, the call goes on from the
// later root, and judges again what it has. So all answers of a call are of one
// revision, which they name, and no older than was asked for.
//
// What is computed from the facts is computed by Rego over a view that has just
// them; a view that is asked for more fails the answer. What Rego finds about unknown
// ids is not kept.
//
// # Redis
//
// Keys carry platform, epoch, policy in force and format (keys.go), values a MAC
// over key and value (entry.go): whoever can write to Redis can make usher slower.
// A value of another key, cut, changed, too large, of an unknown form, or signed by
// nobody we know is a miss, and counted. A value that was true once and is put back
// is dated, and judged by its date. Reads are bounded in size and time; a breaker
// spares a Redis that fails. Entries have a TTL, to collect garbage.
//
// # Failures
//
//	Redis gone, slow, flushed, poisoned   slower: the admin is asked
//	admin gone                            answers from memory and Redis, else UnavailableError
//	feed cut                              answers on at the last revision; entries of others
//	                                      that are newer cannot be used
//	feed begins anew, too far behind      the root before answers until the new one is whole
//	new epoch, policy or platform         a new generation: nothing older is looked at
//	data changes faster than fetched      UnavailableError after a bounded number of rounds
package ondemand
