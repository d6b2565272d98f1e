// Package fleet knows which sidecars there are and how far they are.
//
//	sidecar ──report──▶ any replica ──a few times a second──▶ PostgreSQL ──▶ receipts,
//	 after each revision,   the last of each                   unlogged       the fleet,
//	 and every few seconds  sidecar                            table          of all replicas
//
// A sidecar reports to whichever replica the way there leads to. A replica gathers the
// last report of each sidecar and writes what is new in one statement, at most every
// [Interval]: so a fleet that reports a thousand times a second costs PostgreSQL a few
// statements. Receipts are read from there by every replica, and by commands on the
// database.
//
// A sidecar counts as connected for store.SidecarLease after its last report, or until
// it says that it stops. One that is cut off from the feed but goes on reporting is
// connected, and behind: it answers from old data. One that cannot report either is
// found out by its own age (usher_feed_age_seconds).
//
// While PostgreSQL is away reports are gathered on, and receipts are answered with 503.
package fleet
