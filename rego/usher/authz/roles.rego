# What the roles of the winning level give.

package usher.authz

_role_ids contains id if {
	some grant in _grants
	some id in grant.roles
}

# The names of the winning level's roles, sorted.
_roles := sort({_role(id).name | some id in _role_ids})

# The policies of these roles that list the resource's type.
_policies contains policy if {
	some id in _role_ids
	some policy in _role(id).policies
	_acts_on_type(policy)
}

_policies_given[policy] := _policy_actions(policy) if some policy in _policies

# Who is told of a load alert: a member of whom one role on the winning level
# says so.
default _receives_load_alerts := false

_receives_load_alerts if {
	_is_shared
	some id in _role_ids
	_role(id).receive_load_alerts
}

# When the first of the winning level's grants ends: what was found may then
# change. Compared as a number, which has no last year; given as the text it was
# made of.
_valid_until := min({[grant.expires_at_ns, grant.expires_at] | some grant in _grants})[1]
