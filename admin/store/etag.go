package store

import "github.com/usher-authz/usher/policies"

// etag is made of the last revision that touched an object.
func etag(r policies.Revision) string { return `"r` + r.String() + `"` }

// match holds the call's If-Match against an object: whether it is there, and the
// last revision that touched it.
func (tx *tx) match(there bool, r policies.Revision) error {
	present := ""
	if there {
		present = etag(r)
	}
	switch tx.call.IfMatch {
	case "":
		return nil
	case "*":
		if there {
			return nil
		}
	case present:
		if there {
			return nil
		}
	}
	return &policies.PreconditionError{ETag: present}
}
