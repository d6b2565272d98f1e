# Where the roles of the asking member are found.

package usher.authz

# The only clock; the caller's plays no part.
_now := time.now_ns()

# A grant counts while now < expires_at; then it is absent.
_grant(type, id) := grant if {
	grant := _granted(type, id)

	_is_live(object.get(grant, "expires_at_ns", null))
}

_is_live(null)

_is_live(end) if _now < end

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
_grants contains _grant(input.resource.type, input.resource.id) if _level == "direct"

_grants contains _grant(source.type, source.id) if {
	_level == "shared_env_groups"
	some source in _sources
}

_grants contains _grant("environments", _owner) if _level == "base"
