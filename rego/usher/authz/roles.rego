# What the roles of the winning level give.

package usher.authz

# Their names, sorted.
_roles := sort([role.name | some role in _roles_given])

_policy_ids contains id if {
	some role in _roles_given
	some id in role.policies
}

# Who is told of a load alert: a member of whom one role on the winning level
# says so.
default _receives_load_alerts := false

_receives_load_alerts if {
	_is_shared
	some role in _roles_given
	role.receive_load_alerts
}

# When the first of the winning level's grants ends: what was found may then
# change. Compared as a number, which has no last year; given as the text it was
# made of.
_valid_until := min({[grant.expires_at_ns, grant.expires_at] | some grant in _grants})[1]
