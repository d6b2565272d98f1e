package usher.authz_test

import data.usher.authz

# Each reason, and beside it the nearest question that has another.
_reasons := {
	"unknown subject": {
		"input": _question("nobody", "env.Info", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_subject"}),
	},
	"unknown subject before unknown resource and action": {
		"input": _question("nobody", "env.Nothing", "environment", "nowhere"),
		"decision": _denied({"reason": "unknown_subject"}),
	},
	"a subject that is no account": {
		"input": object.union(
			_question("olga", "env.Info", "environment", "e-leaf"),
			{"subject": {"type": "user"}},
		),
		"decision": _denied({"reason": "unknown_subject"}),
	},
	"a subject with an empty id": {
		"input": _question("", "env.Info", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_subject"}),
	},
	"unknown resource": {
		"input": _question("mia", "env.Info", "environment", "nowhere"),
		"decision": _denied({"reason": "unknown_resource"}),
	},
	"unknown resource before unknown action": {
		"input": _question("mia", "env.Nothing", "environment", "nowhere"),
		"decision": _denied({"reason": "unknown_resource"}),
	},
	"a type that is none of ours": {
		"input": _question("mia", "env.Info", "planet", "e-leaf"),
		"decision": _denied({"reason": "unknown_resource"}),
	},
	"an id of another type": {
		"input": _question("mia", "env.Info", "group", "e-leaf"),
		"decision": _denied({"reason": "unknown_resource"}),
	},
	"unknown action": {
		"input": _question("mia", "env.Nothing", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_action", "owner": "olga"}),
	},
	"unknown action, though its name is that of a policy": {
		"input": _question("mia", "env.view", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_action", "owner": "olga"}),
	},
	"unknown action for the owner": {
		"input": _question("olga", "env.Nothing", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_action", "owner": "olga"}),
	},
	"an action of another owner's custom policy": {
		"input": _question("nemo", "acme.Promote", "environment", "e-nemo"),
		"decision": _denied({"reason": "unknown_action", "owner": "nemo"}),
	},
	"unknown action before no collaboration": {
		"input": _question("nemo", "env.Nothing", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_action", "owner": "olga"}),
	},
	"owner": {
		"input": _question("olga", "env.Stop", "environment", "e-leaf"),
		"decision": _allowed({"reason": "owner", "owner": "olga"}),
	},
	"owner of the account, by an action of a custom policy": {
		"input": _question("olga", "acme.Promote", "account", "olga"),
		"decision": _allowed({"reason": "owner", "owner": "olga"}),
	},
	"owner elsewhere": {
		"input": _question("olga", "env.Info", "environment", "e-nemo"),
		"decision": _denied({"reason": "no_collaboration", "owner": "nemo"}),
	},
	"no collaboration": {
		"input": _question("nemo", "env.Info", "environment", "e-leaf"),
		"decision": _denied({"reason": "no_collaboration", "owner": "olga"}),
	},
	"pending": {
		"input": _question("pia", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_pending", "owner": "olga"}),
	},
	"suspended": {
		"input": _question("sue", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_suspended", "owner": "olga"}),
	},
	"left": {
		"input": _question("lou", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_left", "owner": "olga"}),
	},
	"rejected": {
		"input": _question("rex", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_rejected", "owner": "olga"}),
	},
	"expired": {
		"input": _question("eve", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_expired", "owner": "olga"}),
	},
	"removed": {
		"input": _question("rob", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "collaboration_removed", "owner": "olga"}),
	},
	"not shared": {
		"input": _question("mia", "env.Start", "environment", "e-root"),
		"decision": _denied({"reason": "not_shared", "owner": "olga"}),
	},
	"not shared, nothing to explain but what is missing": {
		"input": _explained(_question("mia", "env.Start", "environment", "e-root")),
		"decision": _denied({
			"reason": "not_shared",
			"owner": "olga",
			"levels": {"direct": [], "shared_env_groups": [], "base": []},
			"missing_roles": ["Lead", "Runner"],
		}),
	},
	"granted": {
		"input": _question("mia", "env.Start", "environment", "e-leaf"),
		"decision": _allowed({
			"reason": "granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"policies": ["env.run", "env.start"],
			"valid_until": "2026-01-08T00:00:00Z",
		}),
	},
	"granted by a system policy and a custom one": {
		"input": _explained(_question("mia", "env.Stop", "environment", "e-leaf")),
		"decision": _allowed({
			"reason": "granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"policies": ["acme.promote", "env.run"],
			"valid_until": "2026-01-08T00:00:00Z",
			"levels": {"direct": ["Deployer", "Runner"], "shared_env_groups": [], "base": []},
		}),
	},
	"action not granted": {
		"input": _question("mia", "env.Info", "environment", "e-leaf"),
		"decision": _denied({
			"reason": "action_not_granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"valid_until": "2026-01-08T00:00:00Z",
		}),
	},
	"action not granted, explained": {
		"input": _explained(_question("mia", "group.Create", "environment", "e-leaf")),
		"decision": _denied({
			"reason": "action_not_granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"valid_until": "2026-01-08T00:00:00Z",
			"levels": {"direct": ["Deployer", "Runner"], "shared_env_groups": [], "base": []},
			"missing_roles": [],
		}),
	},
	"an action on a type that its policy does not list": {
		"input": _question("mia", "env.Start", "group", "g-lone"),
		"decision": _denied({
			"reason": "action_not_granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Runner"],
		}),
	},
	"nothing to explain to an owner": {
		"input": _explained(_question("olga", "env.Stop", "environment", "e-leaf")),
		"decision": _allowed({"reason": "owner", "owner": "olga"}),
	},
	"nothing to explain of a collaboration that is not active": {
		"input": _explained(_question("sue", "env.Stop", "environment", "e-leaf")),
		"decision": _denied({"reason": "collaboration_suspended", "owner": "olga"}),
	},
	"nothing to explain of an action that is not known": {
		"input": _explained(_question("mia", "env.Nothing", "environment", "e-leaf")),
		"decision": _denied({"reason": "unknown_action", "owner": "olga"}),
	},
}

_grants_for_reasons := {
	"environment": {"e-leaf": object.union({"roles": ["r-run", "r-ship"]}, _next_week)},
	"group": {"g-lone": {"roles": ["r-run"]}},
}

test_decision[name] if {
	some name, question in _reasons
	decision := authz.decision with input as question.input
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_reasons)
	decision == question.decision
}

test_allow_is_the_decision[name] if {
	some name, question in _reasons
	allow := authz.allow with input as question.input
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_reasons)
	allow == question.decision.decision
}

test_no_data_is_a_denial if {
	decision := authz.decision with input as _question("mia", "env.Start", "environment", "e-leaf")
		with data.usher.revision as 0
		with data.usher.catalogue as {}
		with data.usher.subjects as {}
		with data.usher.owners as {}
		with data.usher.accounts as {}
	decision == {"decision": false, "context": {"reason": "unknown_subject", "revision": 0}}
}

# Neither context nor properties decide anything, nor is a time in them the clock.
test_what_the_caller_says_of_itself_decides_nothing if {
	said := {
		"subject": {"properties": {"status": "active", "roles": ["r-run"]}},
		"resource": {"properties": {"owner": "nemo"}},
		"action": {"properties": {"name": "env.Info"}},
		"context": {"time": "1999-01-01T00:00:00Z", "now_ns": 1, "Explain": true, "reason": "owner"},
		"decision": true,
	}
	asked := object.union(_question("mia", "env.Start", "environment", "e-leaf"), said)
	grants := {"environment": {"e-leaf": object.union({"roles": ["r-run"]}, _past)}}
	decision := authz.decision with input as asked
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(grants)
	decision == _denied({"reason": "not_shared", "owner": "olga"})
}
