// Package rights holds what a member of an account may do there (domain.md, Who may
// change what): the actions of the table, asked of Rego like any check, and the
// no-gain rule, made of the effective difference.
//
// A write by a member is decided under the write's lock, on the state at the very
// revision that it follows:
//
//	the engine's state ──+ the log since──▶ before ──+ what the write touches──▶ after
//	                                          │                                    │
//	                          the table: Rego decides            the no-gain rule: difference
//
// So a right that was revoked a moment before is not there any more, and of two
// writes that together would give too much the second is refused.
//
// # The no-gain rule
//
// What is given is held: each action that a role of a grant allows, on the kind of
// resource or a kind below it, the writer's roles as found there allow too, by grants
// that do not end earlier. A grant of the writer's that ends earlier keeps its place
// in that question, since it hides what is below it, but gives no role.
//
// What results is held: of all that others gain or lose, now or when grants end, the
// writer holds each action there at that time, before the write. The writer itself
// gains and loses nothing.
package rights
