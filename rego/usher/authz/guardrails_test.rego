package usher.authz_test

import data.usher.authz

_with_guardrails(question, deny, observe) := [decision, guardrails] if {
	[decision, guardrails] := [authz.decision, authz.guardrails] with input as question
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue_with_members
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_reasons)
		with data.usher.guardrails.deny as deny
		with data.usher.guardrails.observe as observe
}

_catalogue_with_members := object.union(_catalogue, {
	"actions": {"members.Suspend": true, "members.List": true},
	"policies": {
		"account.members": {"resources": {"account": true}, "actions": {"members.Suspend": true}},
		"account.collaboration": {"resources": {"environment": true}, "actions": {"members.List": true}},
	},
})

# What each rests on stays, but the policies that would have granted it.
_guarded := {
	"granted": {
		"input": _question("mia", "env.Start", "environment", "e-leaf"),
		"decision": _denied({
			"reason": "guardrail",
			"guardrail": ["a", "b"],
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"valid_until": "2026-01-08T00:00:00Z",
		}),
	},
	"granted, explained": {
		"input": _explained(_question("mia", "env.Start", "environment", "e-leaf")),
		"decision": _denied({
			"reason": "guardrail",
			"guardrail": ["a", "b"],
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"valid_until": "2026-01-08T00:00:00Z",
			"levels": {"direct": ["Deployer", "Runner"], "shared_env_groups": [], "base": []},
		}),
	},
	"the owner": {
		"input": _question("olga", "env.Start", "environment", "e-leaf"),
		"decision": _denied({"reason": "guardrail", "guardrail": ["a", "b"], "owner": "olga"}),
	},
	"the owner manages members": {
		"input": _question("olga", "members.Suspend", "account", "olga"),
		"decision": _allowed({"reason": "owner", "owner": "olga"}),
	},
	"the owner manages collaborators": {
		"input": _question("olga", "members.List", "environment", "e-leaf"),
		"decision": _allowed({"reason": "owner", "owner": "olga"}),
	},
	"what is denied anyway": {
		"input": _question("mia", "env.Info", "environment", "e-leaf"),
		"decision": _denied({
			"reason": "action_not_granted",
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Runner"],
			"valid_until": "2026-01-08T00:00:00Z",
		}),
	},
	"who is not known": {
		"input": _question("nobody", "env.Info", "environment", "e-leaf"),
		"decision": _denied({"reason": "unknown_subject"}),
	},
}

test_guardrails_take_away[name] if {
	some name, question in _guarded
	[decision, guardrails] := _with_guardrails(question.input, {"b", "a"}, {"c"})
	decision == question.decision
	guardrails == _said(decision.context.reason)
}

_said("guardrail") := {"deny": ["a", "b"], "observe": ["c"]}

_said(reason) := {"deny": [], "observe": []} if reason != "guardrail"

test_observing_denies_nothing[name] if {
	some name, question in _reasons
	[decision, guardrails] := _with_guardrails(question.input, set(), {"c"})
	decision == question.decision
	guardrails == {"deny": [], "observe": [reason | some reason in ["c"]; decision.decision]}
}

# A member who manages members is no owner.
test_members_are_not_exempt if {
	decision := authz.decision with input as _question("mia", "members.Suspend", "account", "olga")
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue_with_members
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as object.union(
			_accounts({"account": {"olga": {"roles": ["r-admin"]}}}),
			{"olga": {"roles": {"r-admin": {"name": "Admin", "policies": ["account.members"], "receive_load_alerts": false}}}},
		)
		with data.usher.guardrails.deny as {"a"}
	decision.context.reason == "guardrail"
}

test_allow_is_the_guarded_decision if {
	not authz.allow with input as _question("mia", "env.Start", "environment", "e-leaf")
		with time.now_ns as _now
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_reasons)
		with data.usher.guardrails.deny as {"a"}
}

test_no_guardrails_say_nothing[name] if {
	some name, question in _reasons
	guardrails := authz.guardrails with input as question.input
		with time.now_ns as _now
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_reasons)
	guardrails == {"deny": [], "observe": []}
}
