package usher.authz_test

import data.usher.authz

# The published vectors: a world and a check give the expected answer, with the
# reason, level, roles and policies that the vector names, and none that it does not.
test_vectors[world.name][number] if {
	some world in data.testdata.vectors.worlds
	some number, check in world.checks
	decision := authz.decision with input as {
		"subject": {"type": "account", "id": check.subject},
		"action": {"name": check.action},
		"resource": check.resource,
	}
		with data.usher.revision as world.usher.revision
		with data.usher.catalogue as data.testdata.vectors.catalogue
		with data.usher.subjects as world.usher.subjects
		with data.usher.owners as world.usher.owners
		with data.usher.accounts as world.usher.accounts
	decision.decision == check.decision
	_compared(decision.context) == _compared(check)
}

test_every_vector_is_there if {
	count([check | some world in data.testdata.vectors.worlds; some check in world.checks]) == 54
}

_compared(answer) := {key: answer[key] | some key in ["reason", "level", "roles", "policies"]}
