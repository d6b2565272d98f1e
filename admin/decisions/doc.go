// Package decisions takes in what OPAs report to the admin server by OPA's
// management API: the decisions that they made (POST /v1/logs) and how they stand
// (POST /v1/status). Sidecars send their decision log in the same form.
//
//	OPA, sidecar ──gzip, JSON array──▶ Logs ──▶ decisions, a partition a day
//	OPA ──JSON object──▶ Status ──▶ opa_statuses, the last of each instance
//	Keeper: makes the days' partitions ahead, drops those after the retention
//
// An upload is read event by event, in bounded memory, and kept as it was sent; the
// columns to search by are read out of each event, and are empty where the event
// does not have them or has them masked. OPA sends an upload again until it is
// answered with 2xx: so an event that is there already is passed over, and what can be
// kept is kept, even if it is no decision of usher's. What is no JSON array of
// events, or is over the limits of policies/limits.go, is a 4xx, and none of the rest of it
// is kept; a batch that was read before stays.
package decisions
