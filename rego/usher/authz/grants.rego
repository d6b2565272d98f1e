# Where the roles of the asking member are found.

package usher.authz

# The only clock; the caller's plays no part.
_now := time.now_ns()

# A grant counts while now < expires_at; then it is absent.
_grant(type, id) := grant if {
	grant := data.usher.accounts[_owner].members[input.subject.id].grants[type][id]
	not _has_ended(grant)
}

_has_ended(grant) if grant.expires_at_ns <= _now

# The groups through which the resource may be shared.
_groups := _environment_groups if input.resource.type == "environment"

_groups := [input.resource.id] if input.resource.type == "group"

# The resource on which the roles of a group are found: the group, else its
# nearest ancestor that has some, else the category.
_source(group) := {"type": "group", "id": group} if {
	_grant("group", group)
} else := {"type": "group", "id": ancestor} if {
	ancestor := [candidate |
		some candidate in _ancestors(group)
		_grant("group", candidate)
	][0]
} else := {"type": "groups", "id": _owner} if {
	_grant("groups", _owner)
}

_sources[group] := _source(group) if some group in _groups

# The highest level that has any role; the others are ignored, even if they
# would allow more.
_level := "direct" if {
	_grant(input.resource.type, input.resource.id)
} else := "shared_env_groups" if {
	count(_sources) > 0
} else := "base" if {
	input.resource.type == "environment"
	_grant("environments", _owner)
}

# The grants of the winning level.
_grants := {_grant(input.resource.type, input.resource.id)} if {
	_level == "direct"
} else := {_grant(source.type, source.id) | some source in _sources} if {
	_level == "shared_env_groups"
} else := {_grant("environments", _owner)} if {
	_level == "base"
}
