package feed

import "time"

// The limits of the wire format, in bytes. A line is measured without its line
// feed, after decompression.
const (
	// MaxLine bounds a snapshot, snapshot_end, seal and heartbeat frame, and a frame whose
	// type is not known yet.
	MaxLine = 4 << 10
	// MaxObjectLine bounds an object frame; the policy in force is the largest.
	MaxObjectLine = 8 << 20
	// MaxChangeLine bounds a change and a notice: one revision may import, or delete,
	// an account of 100,000 environments. A server gives a snapshot in place of a
	// greater change.
	MaxChangeLine = 64 << 20
	// MaxReplay is how many revisions at most a server replays to an asker; one that
	// is further behind gets a snapshot.
	MaxReplay = 100_000

	// MaxLookupAnswer bounds the answer to a look-up that a client reads; how much a
	// look-up may ask for is policies.MaxLookups.
	MaxLookupAnswer = 256 << 20

	// maxWindow bounds what a compressed stream can make its reader allocate.
	maxWindow = 8 << 20
	// maxProblem bounds what is read of an answer that is not 200.
	maxProblem = 64 << 10
)

// The times of both ends.
const (
	// HeartbeatInterval is the time between heartbeats.
	HeartbeatInterval = time.Second
	// Silence is how long a client waits for a heartbeat, and for the next bytes of the
	// answer to a look-up, before it gives the connection up. A server that is behind
	// answers within its CatchUpWait, which is less.
	Silence = 3 * time.Second

	dialTimeout   = 5 * time.Second
	headerTimeout = 10 * time.Second
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	// steady is how long a connection must have been good for its end, when it is a
	// refusal, to be answered by the shortest pause again.
	steady = 30 * time.Second
)

func maxLine(t Type) int {
	switch t {
	case TypeObject:
		return MaxObjectLine
	case TypeChange, TypeNotice:
		return MaxChangeLine
	case TypeSnapshot, TypeSnapshotEnd, TypeSeal, TypeHeartbeat:
	}
	return MaxLine
}
