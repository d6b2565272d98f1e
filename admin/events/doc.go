// Package events wakes those who follow the log: not all of them at each revision,
// but those whose account a revision touched.
//
//	log ──▶ engine ──▶ Hub: one query for all new revisions ──▶ wakes: owner touched?
//	                                                                │
//	                             each follower reads what is new from the log itself
//
// A follower that is slow finds more to read the next time, and holds up nobody. A
// wake is no more than a hint: what a follower has read is a place in the log, and
// another replica, or the same one after a restart, goes on from there.
package events
