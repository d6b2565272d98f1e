// Package bench measures a running usher, each figure beside its floor: the least
// that any program must do for the same work, on the same machine, in the same
// minute. Ratios survive a change of machine, and of what else it does.
//
//	generator ──import──▶ admin ──feed──▶ sidecars (children) ◀── load: every answer compared
//	(seed, owners)          │             floor    (child)    ◀── the same load
//	     │ naive model      └──bundle───▶ OPA      (child)    ◀── the same load
//	     └─ expected answers ─────────────────────────────────────┘
//
// The expected answers come from the naive model of the tests, and not from the
// engine: a wrong answer fails the run. Loads on usher and on its floor take turns of
// a second, so that noise weighs on both. What a server costs is its own processor
// time, as the kernel counts it; the client's is not in it.
//
// The platform is the standard one of the design: for each owner 20 environments in 5
// nested groups, 10 members, 50 grants on mixed levels, 5 roles. The tenth member of
// each owner is nobody's question: its grants change while others are asked about.
package bench
