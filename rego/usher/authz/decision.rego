package usher.authz

# METADATA
# description: |
#   The answer to an AuthZEN evaluation, with the reason and what it rests on. A
#   request that is none is denied with invalid_request, one for a revision that
#   the data has not reached with revision_not_reached.
# entrypoint: true
decision := {"decision": allow, "context": object.union_n([part | some part in _context_parts])}

# METADATA
# description: Whether the decision allows.
# entrypoint: true
# scope: document
default allow := false

allow if _reason in {"owner", "granted"}

_reason := "guardrail" if {
	count(_forbidding) > 0
} else := _permitted

# The reason before guardrails had their say.
default _permitted := "action_not_granted"

_permitted := "invalid_request" if {
	not _well_formed
} else := "revision_not_reached" if {
	input.context.min_revision > data.usher.revision
} else := _verdict if {
	_verdict in {"unknown_subject", "unknown_resource"}
} else := "unknown_action" if {
	not _is_action
} else := _verdict if {
	_verdict
} else := "granted" if {
	count(_granting) > 0
}

_granting := _policy_ids & _allowing

# The context, part by part: a part that does not apply to the reason is absent.
_context_parts contains {"reason": _reason, "revision": data.usher.revision}

_context_parts contains {"owner": _owner} if not _reason in {"invalid_request", "unknown_subject", "unknown_resource"}

_context_parts contains {"level": _level, "roles": _roles} if _rests_on_roles

_context_parts contains {"valid_until": _valid_until} if _rests_on_roles

_context_parts contains {"policies": sort(_granting)} if _reason == "granted"

_context_parts contains {"guardrail": guardrails.deny} if _reason == "guardrail"

_context_parts contains {"levels": levels} if {
	_explain
	_permitted in {"granted", "action_not_granted", "not_shared"}
}

_context_parts contains {"missing_roles": _missing_roles} if {
	_explain
	_reason in {"action_not_granted", "not_shared"}
}

_rests_on_roles if _permitted in {"granted", "action_not_granted"}

_explain if input.context.explain == true

# The policies of the winning level's roles; to explain, those of all the owner's.
_policies_in_question contains id if some id in _policy_ids

_policies_in_question contains id if {
	_explain
	some role in _owner_roles
	some id in role.policies
}

# The names of the owner's roles that would allow the action on this type.
_missing_roles := sort({role.name |
	some role in _owner_roles
	some id in role.policies
	id in _allowing
})
