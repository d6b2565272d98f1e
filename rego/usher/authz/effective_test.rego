package usher.authz_test

import data.usher.authz

_effective := {
	"unknown subject": {
		"asked": ["nobody", "environment", "e-leaf"],
		"effective": {"reason": "unknown_subject", "receive_load_alerts": false},
	},
	"unknown resource": {
		"asked": ["mia", "environment", "nowhere"],
		"effective": {"reason": "unknown_resource", "receive_load_alerts": false},
	},
	"owner": {
		"asked": ["olga", "environment", "e-leaf"],
		"effective": {"reason": "owner", "owner": "olga", "receive_load_alerts": false},
	},
	"no collaboration": {
		"asked": ["nemo", "environment", "e-leaf"],
		"effective": {"reason": "no_collaboration", "owner": "olga", "receive_load_alerts": false},
	},
	"suspended, though it has grants": {
		"asked": ["sue", "environment", "e-leaf"],
		"effective": {"reason": "collaboration_suspended", "owner": "olga", "receive_load_alerts": false},
	},
	"not shared": {
		"asked": ["mia", "environment", "e-root"],
		"effective": {"reason": "not_shared", "owner": "olga", "receive_load_alerts": false},
	},
	"roles, with the policies that act on environments": {
		"asked": ["mia", "environment", "e-leaf"],
		"effective": {
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Lead", "Runner"],
			"policies": {
				"env.run": {"env.Start": true, "env.Stop": true},
				"env.start": {"env.Start": true},
				"acme.promote": {"acme.Promote": true, "env.Stop": true},
			},
			"receive_load_alerts": true,
			"valid_until": "2026-01-08T00:00:00Z",
		},
	},
	"the same roles, with the policies that act on groups": {
		"asked": ["mia", "group", "g-leaf"],
		"effective": {
			"owner": "olga",
			"level": "direct",
			"roles": ["Deployer", "Lead", "Runner"],
			"policies": {"groups": {"group.Create": true}},
			"receive_load_alerts": true,
		},
	},
	"a role of which nothing acts on the account": {
		"asked": ["mia", "account", "olga"],
		"effective": {
			"owner": "olga",
			"level": "direct",
			"roles": ["Viewer"],
			"policies": {},
			"receive_load_alerts": false,
		},
	},
}

_grants_for_effective := {
	"environment": {"e-leaf": object.union({"roles": ["r-lead", "r-run", "r-ship"]}, _next_week)},
	"group": {"g-leaf": {"roles": ["r-lead", "r-run", "r-ship"]}},
	"account": {"olga": {"roles": ["r-view"]}},
}

# Without an action in the input: effective does not look at it.
test_effective[name] if {
	some name, question in _effective
	[subject, type, id] := question.asked
	effective := authz.effective with input as object.remove(_question(subject, "", type, id), ["action"])
		with time.now_ns as _now
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(_grants_for_effective)
	effective == question.effective
}

# The clock is the machine's where nobody sets it.
test_the_clock_runs if {
	effective := authz.effective with input as _question("mia", "", "environment", "e-leaf")
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts({"environment": {"e-leaf": object.union({"roles": []}, _past)}})
	effective.reason == "not_shared"
}
