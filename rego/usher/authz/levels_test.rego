package usher.authz_test

import data.usher.authz

_views := {"roles": ["r-view"]}

_runs := {"roles": ["r-run"]}

_leads := {"roles": ["r-lead"]}

_ends(grant, end) := object.union(grant, end)

# What mia is given, what is asked of, and both what counts and what stands on
# every level. effective is compared but for its policies and its owner.
_levels := {
	"nothing": {
		"grants": {},
		"resource": ["environment", "e-leaf"],
		"effective": {"reason": "not_shared"},
		"levels": {"direct": [], "shared_env_groups": [], "base": []},
	},
	"direct hides all below": {
		"grants": {
			"environment": {"e-leaf": _views},
			"group": {"g-leaf": _runs, "g-top": _leads},
			"groups": {"olga": _leads},
			"environments": {"olga": _leads},
		},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "direct", "roles": ["Viewer"]},
		"levels": {
			"direct": ["Viewer"],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"]}],
			"base": ["Lead"],
		},
	},
	"a group hides base and its ancestors": {
		"grants": {
			"group": {"g-leaf": _views, "g-mid": _runs},
			"groups": {"olga": _leads},
			"environments": {"olga": _leads},
		},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "shared_env_groups", "roles": ["Viewer"]},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Viewer"]}],
			"base": ["Lead"],
		},
	},
	"the nearest ancestor that has some": {
		"grants": {"group": {"g-mid": _views, "g-top": _runs}, "groups": {"olga": _leads}},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "shared_env_groups", "roles": ["Viewer"]},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Viewer"], "inherited_from": "g-mid"}],
			"base": [],
		},
	},
	"the farthest ancestor": {
		"grants": {"group": {"g-top": _runs}},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "shared_env_groups", "roles": ["Runner"], "receive_load_alerts": true},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"], "inherited_from": "g-top"}],
			"base": [],
		},
	},
	"each group for itself, then all unite": {
		"grants": {"group": {"g-top": _runs}, "groups": {"olga": _views}},
		"resource": ["environment", "e-two"],
		"effective": {"level": "shared_env_groups", "roles": ["Runner", "Viewer"], "receive_load_alerts": true},
		"levels": {
			"direct": [],
			"shared_env_groups": [
				{"group": "g-leaf", "roles": ["Runner"], "inherited_from": "g-top"},
				{"group": "g-lone", "roles": ["Viewer"], "inherited_from": "groups"},
			],
			"base": [],
		},
	},
	"a group for which nothing is found adds nothing": {
		"grants": {"group": {"g-mid": _views}, "environments": {"olga": _leads}},
		"resource": ["environment", "e-two"],
		"effective": {"level": "shared_env_groups", "roles": ["Viewer"]},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Viewer"], "inherited_from": "g-mid"}],
			"base": ["Lead"],
		},
	},
	"silent groups uncover base": {
		"grants": {"environments": {"olga": _leads}, "group": {"g-lone": _views}},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "base", "roles": ["Lead"]},
		"levels": {"direct": [], "shared_env_groups": [], "base": ["Lead"]},
	},
	"the category groups does not reach an environment in no group": {
		"grants": {"groups": {"olga": _leads}},
		"resource": ["environment", "e-root"],
		"effective": {"reason": "not_shared"},
		"levels": {"direct": [], "shared_env_groups": [], "base": []},
	},
	"a group's own roles": {
		"grants": {"group": {"g-leaf": _views, "g-mid": _runs}, "groups": {"olga": _leads}},
		"resource": ["group", "g-leaf"],
		"effective": {"level": "direct", "roles": ["Viewer"]},
		"levels": {"direct": ["Viewer"], "shared_env_groups": [], "base": []},
	},
	"a group's ancestor": {
		"grants": {"group": {"g-mid": _runs, "g-top": _views}, "environments": {"olga": _leads}},
		"resource": ["group", "g-leaf"],
		"effective": {"level": "shared_env_groups", "roles": ["Runner"], "receive_load_alerts": true},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"], "inherited_from": "g-mid"}],
			"base": [],
		},
	},
	"a group's category": {
		"grants": {"groups": {"olga": _leads}},
		"resource": ["group", "g-top"],
		"effective": {"level": "shared_env_groups", "roles": ["Lead"]},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-top", "roles": ["Lead"], "inherited_from": "groups"}],
			"base": [],
		},
	},
	"base does not reach a group": {
		"grants": {"environments": {"olga": _leads}},
		"resource": ["group", "g-top"],
		"effective": {"reason": "not_shared"},
		"levels": {"direct": [], "shared_env_groups": [], "base": []},
	},
	"the category environments": {
		"grants": {"environments": {"olga": _leads}, "groups": {"olga": _views}},
		"resource": ["environments", "olga"],
		"effective": {"level": "direct", "roles": ["Lead"]},
		"levels": {"direct": ["Lead"], "shared_env_groups": [], "base": []},
	},
	"the category groups": {
		"grants": {"environments": {"olga": _leads}, "groups": {"olga": _views}},
		"resource": ["groups", "olga"],
		"effective": {"level": "direct", "roles": ["Viewer"]},
		"levels": {"direct": ["Viewer"], "shared_env_groups": [], "base": []},
	},
	"the account": {
		"grants": {"account": {"olga": {"roles": ["r-view", "r-lead"]}}, "groups": {"olga": _runs}},
		"resource": ["account", "olga"],
		"effective": {"level": "direct", "roles": ["Lead", "Viewer"]},
		"levels": {"direct": ["Lead", "Viewer"], "shared_env_groups": [], "base": []},
	},
	"a category of which nothing is granted": {
		"grants": {"environments": {"olga": _leads}, "groups": {"olga": _views}},
		"resource": ["account", "olga"],
		"effective": {"reason": "not_shared"},
		"levels": {"direct": [], "shared_env_groups": [], "base": []},
	},
	"an ended direct grant uncovers the group": {
		"grants": {"environment": {"e-leaf": _ends(_views, _past)}, "group": {"g-leaf": _runs}},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "shared_env_groups", "roles": ["Runner"], "receive_load_alerts": true},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"]}],
			"base": [],
		},
	},
	"a grant that ends now has ended": {
		"grants": {"environment": {"e-leaf": _ends(_views, {"expires_at": "2026-01-01T00:00:00Z", "expires_at_ns": _now})}},
		"resource": ["environment", "e-leaf"],
		"effective": {"reason": "not_shared"},
		"levels": {"direct": [], "shared_env_groups": [], "base": []},
	},
	"a grant that ends in a nanosecond counts": {
		"grants": {"environment": {"e-leaf": _ends(_views, {"expires_at": "soon", "expires_at_ns": _now + 1})}},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "direct", "roles": ["Viewer"], "valid_until": "soon"},
		"levels": {"direct": ["Viewer"], "shared_env_groups": [], "base": []},
	},
	"an ended group grant uncovers its ancestor, and an ended ancestor the next": {
		"grants": {
			"group": {"g-leaf": _ends(_views, _past), "g-mid": _ends(_views, _past), "g-top": _runs},
			"groups": {"olga": _ends(_leads, _past)},
			"environments": {"olga": _ends(_leads, _past)},
		},
		"resource": ["environment", "e-two"],
		"effective": {"level": "shared_env_groups", "roles": ["Runner"], "receive_load_alerts": true},
		"levels": {
			"direct": [],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"], "inherited_from": "g-top"}],
			"base": [],
		},
	},
	"the end of what counts, not of what is hidden": {
		"grants": {
			"environment": {"e-leaf": _ends(_views, _next_month)},
			"group": {"g-leaf": _ends(_runs, _next_week)},
		},
		"resource": ["environment", "e-leaf"],
		"effective": {"level": "direct", "roles": ["Viewer"], "valid_until": "2026-02-01T00:00:00Z"},
		"levels": {
			"direct": ["Viewer"],
			"shared_env_groups": [{"group": "g-leaf", "roles": ["Runner"]}],
			"base": [],
		},
	},
	"the first end of several": {
		"grants": {"group": {"g-leaf": _ends(_views, _next_month), "g-lone": _ends(_leads, _next_week)}},
		"resource": ["environment", "e-two"],
		"effective": {
			"level": "shared_env_groups",
			"roles": ["Lead", "Viewer"],
			"valid_until": "2026-01-08T00:00:00Z",
		},
		"levels": {
			"direct": [],
			"shared_env_groups": [
				{"group": "g-leaf", "roles": ["Viewer"]},
				{"group": "g-lone", "roles": ["Lead"]},
			],
			"base": [],
		},
	},
	"an end beside none": {
		"grants": {"group": {"g-leaf": _views, "g-lone": _ends(_views, _year_2998)}},
		"resource": ["environment", "e-two"],
		"effective": {"level": "shared_env_groups", "roles": ["Viewer"], "valid_until": "2998-01-01T00:00:00Z"},
		"levels": {
			"direct": [],
			"shared_env_groups": [
				{"group": "g-leaf", "roles": ["Viewer"]},
				{"group": "g-lone", "roles": ["Viewer"]},
			],
			"base": [],
		},
	},
	"the first of two ends beyond 64 bits": {
		"grants": {"group": {"g-leaf": _ends(_views, _year_2998), "g-lone": _ends(_views, _year_2997)}},
		"resource": ["environment", "e-two"],
		"effective": {"level": "shared_env_groups", "roles": ["Viewer"], "valid_until": "2997-01-01T00:00:00Z"},
		"levels": {
			"direct": [],
			"shared_env_groups": [
				{"group": "g-leaf", "roles": ["Viewer"]},
				{"group": "g-lone", "roles": ["Viewer"]},
			],
			"base": [],
		},
	},
}

test_levels[name] if {
	some name, question in _levels
	[type, id] := question.resource
	levels := authz.levels with input as _question("mia", "env.Start", type, id)
		with time.now_ns as _now
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(question.grants)
	levels == question.levels
}

test_effective_level[name] if {
	some name, question in _levels
	[type, id] := question.resource
	effective := authz.effective with input as _question("mia", "env.Start", type, id)
		with time.now_ns as _now
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts(question.grants)
	expected := object.union({"owner": "olga", "receive_load_alerts": false}, question.effective)
	object.remove(effective, ["policies"]) == expected
}

test_no_levels_without_an_active_collaboration[subject] if {
	some subject in ["olga", "nemo", "pia", "sue", "lou", "rex", "eve", "rob", "nobody"]
	not authz.levels with input as _question(subject, "env.Start", "environment", "e-leaf")
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts({})
}
