# Guardrails take away: Rego of a platform's own, in package usher.guardrails, that
# looks at the whole request and at what the subject has. They cannot give.

package usher.authz

# METADATA
# description: |
#   What the guardrails say of a request that is allowed but for them: the reasons to
#   deny it, and those of the rules that only observe. Both are empty where none speaks.
guardrails := {"deny": sort(_forbidding), "observe": sort(_observing)}

_forbidding contains reason if {
	_guarded
	some reason in data.usher.guardrails.deny
}

_observing contains reason if {
	_guarded
	some reason in data.usher.guardrails.observe
}

_guarded if _permitted == "granted"

# Whoever owns an account can always manage who shares it: no guardrail locks it out.
_guarded if {
	_permitted == "owner"
	not _manages_collaboration
}

_manages_collaboration if {
	some id in ["account.collaboration", "account.members"]
	data.usher.catalogue.policies[id].actions[input.action.name]
}
