# METADATA
# description: |
#   Decides whether an account may do an action on a resource of another, from who
#   shared what with whom. The request of AuthZEN is the input; data.usher is the
#   platform at one revision.
package usher.authz

# METADATA
# description: |
#   What the subject has on the resource, whatever the action: the reason where it
#   follows from these two alone, else level, roles, and the policies that these
#   roles give on this type of resource, with their actions. It reads subject and
#   resource of the input and nothing else of it, and holds until valid_until.
effective := object.union(_shared, _ending) if {
	_is_shared
} else := {"reason": _verdict, "owner": _owner, "receive_load_alerts": false} if {
	_is_account
} else := {"reason": _verdict, "receive_load_alerts": false}

_shared := {
	"owner": _owner,
	"level": _level,
	"roles": _roles,
	"policies": _policies_given,
	"receive_load_alerts": _receives_load_alerts,
}

default _ending := {}

_ending := {"valid_until": _valid_until}

# The reason that follows from subject and resource; undefined where roles are
# found, and the action decides.
_verdict := "unknown_subject" if {
	not _is_account
} else := "unknown_resource" if {
	not _owner
} else := "owner" if {
	_owner == input.subject.id
} else := "no_collaboration" if {
	not _status
} else := $"collaboration_{_status}" if {
	_status != "active"
} else := "not_shared" if {
	not _level
}

_is_shared if not _verdict
