# A small platform for the tests: olga shares, everybody else is what their name
# and status say. What mia is given is up to each case.

package usher.authz_test

# 2026-01-01T00:00:00Z, in nanoseconds.
_now := 1767225600000000000

_past := {"expires_at": "2001-01-01T00:00:00Z", "expires_at_ns": 978307200000000000}

_next_week := {"expires_at": "2026-01-08T00:00:00Z", "expires_at_ns": 1767830400000000000}

_next_month := {"expires_at": "2026-02-01T00:00:00Z", "expires_at_ns": 1769904000000000000}

# Beyond what 64 bits hold.
_year_2997 := {"expires_at": "2997-01-01T00:00:00Z", "expires_at_ns": 32408985600000000000}

_year_2998 := {"expires_at": "2998-01-01T00:00:00Z", "expires_at_ns": 32440521600000000000}

_catalogue := {
	"actions": {"env.Info": true, "env.Start": true, "env.Stop": true, "group.Create": true},
	"policies": {
		"env.view": {"resources": {"environment": true, "group": true}, "actions": {"env.Info": true}},
		"env.run": {"resources": {"environment": true}, "actions": {"env.Start": true, "env.Stop": true}},
		"env.start": {"resources": {"environment": true}, "actions": {"env.Start": true}},
		"groups": {
			"resources": {"group": true, "groups": true, "environments": true, "account": true},
			"actions": {"group.Create": true},
		},
	},
}

_subjects[name] := true if some name in ["olga", "mia", "nemo", "pia", "sue", "lou", "rex", "eve", "rob"]

_owners := {
	"environment": {"e-leaf": "olga", "e-two": "olga", "e-root": "olga", "e-nemo": "nemo"},
	"group": {"g-top": "olga", "g-mid": "olga", "g-leaf": "olga", "g-lone": "olga"},
	"environments": {name: name | some name, _ in _subjects},
	"groups": {name: name | some name, _ in _subjects},
	"account": {name: name | some name, _ in _subjects},
}

_accounts(grants) := {
	"nemo": {"actions": {}, "groups": {}, "environments": {"e-nemo": {"groups": []}}},
	"olga": {
		"actions": {"acme.Promote": true},
		"groups": {
			"g-top": {"ancestors": []},
			"g-mid": {"ancestors": ["g-top"]},
			"g-leaf": {"ancestors": ["g-mid", "g-top"]},
			"g-lone": {"ancestors": []},
		},
		"environments": {
			"e-leaf": {"groups": ["g-leaf"]},
			"e-two": {"groups": ["g-leaf", "g-lone"]},
			"e-root": {"groups": []},
		},
		"policies": {"acme.promote": {
			"resources": {"environment": true},
			"actions": {"acme.Promote": true, "env.Stop": true},
		}},
		"roles": {
			"r-view": {"name": "Viewer", "policies": ["env.view"], "receive_load_alerts": false},
			"r-run": {"name": "Runner", "policies": ["env.run", "env.start"], "receive_load_alerts": true},
			"r-ship": {"name": "Deployer", "policies": ["acme.promote"], "receive_load_alerts": false},
			"r-lead": {"name": "Lead", "policies": ["env.run", "groups"], "receive_load_alerts": false},
		},
		"members": {
			"mia": {"id": "c-mia", "status": "active", "grants": grants},
			"pia": _member("pending"),
			"sue": _member("suspended"),
			"lou": _member("left"),
			"rex": _member("rejected"),
			"eve": _member("expired"),
			"rob": {"id": "c-removed", "status": "removed", "grants": {}},
		},
	},
}

# Grants that must not count, since the collaboration is not active.
_member(status) := {
	"id": $"c-{status}",
	"status": status,
	"grants": {"environment": {"e-leaf": {"roles": ["r-run"]}}},
}

_question(subject, action, type, id) := {
	"subject": {"type": "account", "id": subject},
	"action": {"name": action},
	"resource": {"type": type, "id": id},
}

_explained(question) := object.union(question, {"context": {"explain": true}})

_denied(context) := {"decision": false, "context": object.union({"revision": 7}, context)}

_allowed(context) := {"decision": true, "context": object.union({"revision": 7}, context)}
