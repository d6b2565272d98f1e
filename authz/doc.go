// Package authz is the sidecar's core, and a library: the state of the platform,
// the Rego that decides over it, and the engine that answers checks and keeps what
// Rego found. It knows no HTTP, no Redis and no SQL.
//
//	changes, snapshots (feed, store, bundle)            questions
//	           │                                            │
//	           ▼                                            ▼
//	 Builder ─▶ State ──Apply(change)──▶ State ──▶ Engine ─ root ─▶ cache ── hit ──▶ Decision
//	             │ whose is it: environments, groups          │        ▲
//	             │ accounts ─▶ Account                        │ miss   │ Permissions
//	             │              ├ groups, environments        ▼        │ (compact)
//	             │              ├ roles, custom policies    Policy.Effective
//	             │              └ members ─▶ grants           │ Rego, prepared once a digest
//	             └ Policy (catalogue, compiled Rego)          ▼
//	                                                        viewStore: small documents
//	                                                        out of the state, by path
//
// # State
//
// A [State] is the whole platform at one revision, an immutable root over
// persistent maps (type table, the only one that knows how they are made). A change
// makes a new root that shares all it did not touch; it costs what its objects
// cost, however many accounts there are and however much the touched ones hold.
// Objects in a change may stand in any order. A change that does not follow in the
// chain, or contradicts itself or the state, is refused whole; see State.verify for
// what is held and what is left to the store.
//
// # Rego decides
//
// Go does not know what a status, a level or a role means. On a miss the engine
// evaluates data.usher.authz.effective for (subject, resource), with the View in
// the transaction and now as the clock, and keeps the result. The one thing that Go
// composes is effective + action ([Permissions.Decide]). A question with explain is
// data.usher.authz.decision as a whole, each time. The modules cannot reach out of
// the process, and a result that is not understood is an error, never an answer.
//
// # The engine
//
//	            New                     Reset                Apply, Reset
//	(nothing) ──────▶ without a state ─────────▶ in force ──┐ a new root, one at a time
//	                  UnavailableError              ▲       │ earlier revision: RollbackError
//	                                                └───────┘ other platform: PlatformError
//
// It guarantees:
//
//   - An answer, and a batch, is of one root, and names its revision. Later
//     questions never get an earlier one; a min_revision that does not arrive in
//     time is a [RevisionError], never an older answer.
//   - Now is the greater of the clock and the last heartbeat. A grant counts while
//     now < its end, on a hit too.
//   - A hit does not allocate. Those who miss the same thing at the same time wait
//     for one evaluation.
//   - The cache is bounded. What is unknown takes no room in it.
//   - After an error all is as it was before.
//
// # What survives in the cache
//
// Applying a change never walks the cache. A result carries the revision that it
// was computed at; what it rests on carries the revision that last touched it; and
// at each new root the first look at a result compares them (State.holds), unless the
// last changes were all about others than its subject and owner (root.untouchedSince).
//
//	what changed                                 what starts anew         held in
//	a member's grants or status, a new member    that member's results    member.changed
//	                                             at that owner
//	an environment                               that environment's       environment.changed
//	a group, a role, a custom policy, the        all of that owner        Account.all
//	owner's account; a member record that went
//	or has another account (nothing of the one
//	it had is left to carry a revision)
//	an account, environment or group that went   its results              it has no owner, or
//	                                                                      is not known, any more
//	the policy in force, the epoch, a Reset      everything               root.since
//	tokens, other accounts                       nothing
//
// TestCacheNeverDiffers holds that nothing survives that should not, and
// TestWhatSurvives that no more goes than this.
//
// # Reading order
//
// view.go, decision.go: the words. account.go, state.go, edit.go, verify.go,
// build.go, part.go: the state; table.go, tree.go, text.go, bodies.go: what it is made of.
// store.go, policy.go, results.go: Rego. heartbeats.go: now. permissions.go, commons.go, cache.go, pairs.go,
// flight.go, engine.go: a check. objects.go, bundle.go, permissions_codec.go: the ways out.
package authz
