package usher.authz

# METADATA
# description: |
#   The names of the roles that live grants give on every level, whichever of them
#   wins: for people who ask why. Undefined unless the collaboration is active.
levels := {
	"direct": _names_at(input.resource.type, input.resource.id),
	"shared_env_groups": [found | some group in _groups_below_direct; found := _found(group)],
	"base": _base,
} if {
	_is_account
	_status == "active"
}

# A group's own roles are its direct ones; only those found above it are shared.
default _groups_below_direct := []

_groups_below_direct := _groups if input.resource.type == "environment"

_groups_below_direct := _groups if {
	input.resource.type == "group"
	not _grant("group", input.resource.id)
}

_found(group) := {"group": group, "roles": _names_at("group", group)} if {
	_source(group).id == group
	_source(group).type == "group"
} else := {"group": group, "roles": _names_at(source.type, source.id), "inherited_from": _inherited_from(source)} if {
	source := _source(group)
}

_inherited_from(source) := source.id if source.type == "group"

_inherited_from(source) := "groups" if source.type == "groups"

default _base := []

_base := _names_at("environments", _owner) if input.resource.type == "environment"

_names_at(type, id) := sort([_role_name(role) | some role in _grant(type, id).roles])
