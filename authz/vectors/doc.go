// Package vectors holds a platform's data against expected decisions, written down in
// YAML or JSON beside them and checked before they change: `usher test`.
//
//	worlds:                       # each with data of its own
//	  - name: a direct role hides those of groups
//	    now: 2026-11-25T12:00:00Z # by which grants end; the present, if absent
//	    account: {…}              # an account document; accounts: a list of them
//	    checks: […]
//	checks:                       # of a bundle, of documents, of a sidecar
//	  - subject: mia
//	    action: environment.control.StartEnv
//	    resource: environment:my-app   # or {type: environment, id: my-app}
//	    decision: false
//	    reason: action_not_granted
//
// A check has a subject, an action, a resource and a decision. What else it names of the
// answer, reason, level, roles, policies and owner, must be so too; an empty level or
// list says that the answer has none. What it does not name is not looked at. Name, why
// and comment are for people.
//
// # Coverage
//
// A role is exercised by a check in whose answer it stands on the winning level, and a
// policy by one that it grants. A platform's roles, custom policies, and the system
// policies of its roles, are what there is to exercise; all worlds of a run count
// together.
package vectors
