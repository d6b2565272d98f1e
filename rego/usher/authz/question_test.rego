package usher.authz_test

import data.usher.authz

_asked := _question("olga", "env.Start", "environment", "e-leaf")

_with_context(context) := object.union(_asked, {"context": context})

_with_min_revision(revision) := _with_context({"min_revision": revision})

_malformed := {
	"no object": "olga",
	"null": null,
	"an array": [_asked],
	"empty": {},
	"no subject": object.remove(_asked, ["subject"]),
	"no action": object.remove(_asked, ["action"]),
	"no resource": object.remove(_asked, ["resource"]),
	"a subject that is a string": object.union(_asked, {"subject": "olga"}),
	"a subject that is null": object.union(_asked, {"subject": null}),
	"an action that is a string": object.union(_asked, {"action": "env.Start"}),
	"a resource that is an array": object.union(_asked, {"resource": ["environment", "e-leaf"]}),
	"no subject type": json.remove(_asked, ["/subject/type"]),
	"no subject id": json.remove(_asked, ["/subject/id"]),
	"no action name": json.remove(_asked, ["/action/name"]),
	"no resource type": json.remove(_asked, ["/resource/type"]),
	"no resource id": json.remove(_asked, ["/resource/id"]),
	"names in another case": {
		"Subject": {"type": "account", "id": "olga"},
		"Action": {"name": "env.Start"},
		"Resource": {"type": "environment", "id": "e-leaf"},
	},
	"a subject type that is a number": object.union(_asked, {"subject": {"type": 1}}),
	"a subject id that is null": object.union(_asked, {"subject": {"id": null}}),
	"an action name that is an object": object.union(_asked, {"action": {"name": {}}}),
	"a resource type that is a boolean": object.union(_asked, {"resource": {"type": true}}),
	"a resource id that is a number": object.union(_asked, {"resource": {"id": 7}}),
	"subject properties that are no object": object.union(_asked, {"subject": {"properties": []}}),
	"action properties that are no object": object.union(_asked, {"action": {"properties": "all"}}),
	"resource properties that are no object": object.union(_asked, {"resource": {"properties": null}}),
	"a context that is a string": _with_context("none"),
	"a context that is null": _with_context(null),
	"an explain that is a string": _with_context({"explain": "true"}),
	"an explain that is null": _with_context({"explain": null}),
	"a revision that is a string": _with_min_revision("7"),
	"a revision that is null": _with_min_revision(null),
	"a revision below zero": _with_min_revision(-1),
	"a revision between two": _with_min_revision(6.5),
	"a revision beyond 53 bits": _with_min_revision(9007199254740992),
}

test_malformed[name] if {
	some name, question in _malformed
	decision := authz.decision with input as question
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts({})
	decision == _denied({"reason": "invalid_request"})
}

_well_formed := {
	"as asked": _asked,
	"an empty context": _with_context({}),
	"a context of others": _with_context({"time": 1, "Min_Revision": "x", "Explain": 7}),
	"properties": object.union(_asked, {
		"subject": {"properties": {"a": null}},
		"action": {"properties": {}},
		"resource": {"properties": {"b": [1]}},
	}),
	"unknown fields": object.union(_asked, {"evaluations": 1, "Subject": {"id": "mia"}}),
	"no explanation": _with_context({"explain": false}),
	"revision 0": _with_min_revision(0),
	"the present revision": _with_min_revision(7),
	"the present revision, written otherwise": _with_min_revision(7.0),
}

test_well_formed[name] if {
	some name, question in _well_formed
	decision := authz.decision with input as question
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts({})
	decision == _allowed({"reason": "owner", "owner": "olga"})
}

_not_reached := {
	"the next revision": {
		"input": _with_min_revision(8),
		"decision": _denied({"reason": "revision_not_reached", "owner": "olga"}),
	},
	"the greatest revision": {
		"input": _with_min_revision(9007199254740991),
		"decision": _denied({"reason": "revision_not_reached", "owner": "olga"}),
	},
	"before all that is unknown": {
		"input": object.union(
			_question("nobody", "env.Nothing", "environment", "nowhere"),
			{"context": {"min_revision": 8}},
		),
		"decision": _denied({"reason": "revision_not_reached"}),
	},
	"with nothing to explain": {
		"input": _with_context({"min_revision": 8, "explain": true}),
		"decision": _denied({"reason": "revision_not_reached", "owner": "olga"}),
	},
}

test_revision_not_reached[name] if {
	some name, question in _not_reached
	decision := authz.decision with input as question.input
		with data.usher.revision as 7
		with data.usher.catalogue as _catalogue
		with data.usher.subjects as _subjects
		with data.usher.owners as _owners
		with data.usher.accounts as _accounts({})
	decision == question.decision
}
