# All that is read of the platform. Every reference is ground by the time it is
# read, owner first, so that a question costs what it rests on and not one member,
# grant or policy more. Only _owner_roles reads all there is, and only an
# explanation asks for it.

package usher.authz

_is_account if {
	input.subject.type == "account"
	data.usher.subjects[input.subject.id]
}

_owner := data.usher.owners[input.resource.type][input.resource.id]

# An action is known if the catalogue or a custom policy of the resource's owner
# names it. Unknown ones are denied to owners too: a typo must not look like a yes.
_is_action if data.usher.catalogue.actions[input.action.name]

_is_action if data.usher.accounts[_owner].actions[input.action.name]

_status := data.usher.accounts[_owner].members[input.subject.id].status

_environment_groups := data.usher.accounts[_owner].environments[input.resource.id].groups

# The groups above a group, nearest first.
_ancestors(group) := data.usher.accounts[_owner].groups[group].ancestors

# The roles of the winning level, by id.
_roles_given[id] := data.usher.accounts[_owner].roles[id] if {
	some grant in _grants
	some id in grant.roles
}

_role_name(id) := data.usher.accounts[_owner].roles[id].name

_owner_roles := data.usher.accounts[_owner].roles

# A policy is of the system, else one of the owner's own: their ids are never the
# same.
_policy(id) := policy if {
	policy := data.usher.catalogue.policies[id]
} else := data.usher.accounts[_owner].policies[id]

_policies_given[id] := policy.actions if {
	some id in _policy_ids
	policy := _policy(id)
	policy.resources[input.resource.type]
}

# The policies that allow the action on the resource's type, among those in
# question. What they contain is read first, since few of them contain it.
_allowing contains id if {
	some id in _policies_in_question
	data.usher.catalogue.policies[id].actions[input.action.name]
	data.usher.catalogue.policies[id].resources[input.resource.type]
}

_allowing contains id if {
	some id in _policies_in_question
	data.usher.accounts[_owner].policies[id].actions[input.action.name]
	data.usher.accounts[_owner].policies[id].resources[input.resource.type]
}
