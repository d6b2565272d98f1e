// Package disk keeps the state of a resident sidecar on disk, so that it can answer
// after a restart with everything else down.
//
//	DIR/snapshot.zst      the state at one revision, as the feed writes a snapshot:
//	                      a frame a line, compressed
//	DIR/confirmed.json    the last heartbeat that named that revision: until then the
//	                      snapshot was the platform's present state. Or an older one, if
//	                      the process was killed between the two files: then the snapshot
//	                      was confirmed later than that, and is younger than it seems
//
// # What is trusted
//
// The heartbeat is signed by the admin server, and verified as on the wire: platform,
// revision, chain hash and time. The state as a whole was never signed, since most of
// it came by changes. So the sidecar authenticates what it wrote itself, by an HMAC
// over the digest of the lines, whose key is derived from its service token: a file
// that somebody else wrote, altered, or took from another platform is refused.
// (Whoever knows the token can ask the admin server for all of it anyway.) A token that is replaced makes
// the file worthless: the next snapshot comes from the admin server.
//
// An older pair of files put in place of the present one is genuine, but was last
// confirmed when it was present: its age tells, and max-offline bounds it.
//
// # Who comes first
//
// A snapshot of a large platform is seconds of work, which nobody waits for. It rests
// most of the time, so that checks and changes have the processor, but while there is
// none on disk, and at the end of the process.
//
// # Faults
//
// Both files are written beside, synced, and renamed, and the directory is synced:
// killed at any instant, the old or the new one is there. What cannot be written (a
// full disk) is logged and counted, and tried again after the interval. What cannot be
// read (torn, replaced, of a wrong mode) is logged and counted, counts as nothing,
// and is overwritten by the next snapshot.
package disk
