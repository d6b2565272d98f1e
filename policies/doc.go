// Package policies is usher's domain: the words of the platform, their
// validation, the catalogue of system policies, account documents, the objects
// that the change log and the feed are made of, and the compiler from the
// present state to an OPA bundle.
//
// It is pure: no I/O but readers and writers, no clock, no randomness but what
// it is given. Everything above it (authz, admin, cmd) speaks in its types.
//
// # Words
//
// An account owns environments, sorts them into groups, and shares both with
// other accounts, its members. A collaboration is one owner with one member: it
// has a status and grants. A grant gives roles on one resource; a role is a set
// of policies; a policy is a set of actions with the kinds of resource on which
// they are checked. A revision orders every change on the platform.
package policies
