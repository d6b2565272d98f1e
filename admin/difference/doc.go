// Package difference tells what a change means: who gains and who loses which
// actions on which resources. That is one function, [Change.Each], and the no-gain
// rule, the impact of a dry run, the mails and the events are all made of it.
//
//	state before, state after, the objects that the change touches
//	   │
//	   ▼  pairs that they can touch                what is read, nothing decided
//	(member, resource)
//	   │
//	   ▼  Rego, before and after, now (and at each later end of a grant)
//	(member, resource, actions gained, actions lost)
//
// # Which pairs
//
//	what changed      members                              resources
//	a grant           its member                           the grant's and those below it
//	a member          itself                               those of all its grants, and below
//	a role's policies those with a grant that has it       those grants', and below
//	a custom policy   as the roles that have it
//	an environment    those with a grant that can count    itself
//	a group           those with a grant above it          itself, and all below it
//
// These are no more than candidates: whether anything is gained or lost there, Rego
// tells. What changes an account as a whole (it is deleted, another policy comes in
// force) is no such change; the objects in it are.
//
// # Once for each shape
//
// Rego is asked about a supposed member ([authz.Suppose]) that has just the grants
// that it can read for the resource. It knows ids by nothing but equality. So the
// answer is the same wherever the same grants stand in the same places around a
// resource of the same type, and is evaluated once for each such shape: ten thousand
// grants of a role cost a few evaluations.
package difference
