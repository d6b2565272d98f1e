// Package authz is the sidecar's core: the state of the platform, the Rego that
// decides over it, and the engine that keeps what Rego found.
package authz
