# What is asked, and whether it is a question at all: the request of AuthZEN,
# unchanged, is the input.

package usher.authz

# The greatest whole number that JSON numbers carry exactly: 2^53 - 1.
_max_revision := 9007199254740991

_well_formed if {
	is_string(input.action.name)
	is_string(input.subject.type)
	is_string(input.subject.id)
	is_string(input.resource.type)
	is_string(input.resource.id)
	_properties_are_objects
	_well_formed_context
}

_properties_are_objects if {
	is_object(object.get(input.subject, "properties", {}))
	is_object(object.get(input.action, "properties", {}))
	is_object(object.get(input.resource, "properties", {}))
}

_well_formed_context if {
	context := object.get(input, "context", {})

	is_object(context)
	is_boolean(object.get(context, "explain", false))
	_is_revision(object.get(context, "min_revision", 0))
}

_is_revision(number) if {
	is_number(number)
	number >= 0
	number <= _max_revision
	floor(number) == number
}
