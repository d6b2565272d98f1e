// Package guardrails makes guardrails out of what security teams write: Rego of their
// own, in package usher.guardrails, that takes away what the shared permissions allow,
// by the request and its context.
//
//	tickets.rego ────── Make ─▶ usher/guardrails/tickets.rego ─▶ the policy in force
//	tickets_test.rego ─ Test ─▶ passed, or why not
//
// A rule speaks for the actions of its annotation and for no other:
//
//	# METADATA
//	# title: Deletes need a ticket
//	# custom:
//	#   actions: [environment.control.DeleteEnv]
//	deny contains "deletes need a ticket" if not input.context.ticket
//
// So that this holds wherever the modules run, [Make] writes it into the rule, as the
// first condition of its body. What it makes is in force, in the bundles and in the
// change log: what an auditor reads is what runs. A rule named observe instead of deny
// denies nothing; what it would have denied is counted and logged.
//
// # What a guardrail may read
//
// The input is the request of AuthZEN, with its context. Of the data it may read
// data.usher.authz.effective, what the subject has on the resource, and its own package
// and those below: all else is how usher is made inside, and may change. Its clock is
// time.now_ns. It cannot reach out of the process.
package guardrails
