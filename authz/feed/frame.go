package feed

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// ContentType is the media type of the stream: one JSON object a line.
const ContentType = "application/x-ndjson"

// The paths of the feed below the admin's URL.
const (
	StreamPath = "/v1/feed"
	LookupPath = "/v1/feed/lookup"
)

// Mode is what a sidecar wants to be told.
type Mode string

// The modes of the stream.
const (
	ModeResident Mode = "resident" // snapshots and changes: everything
	ModeNotices  Mode = "notices"  // policy, tokens, and what changed by name
)

// Modes lists every mode.
var Modes = []Mode{ModeResident, ModeNotices}

// Valid tells whether m is one of [Modes].
func (m Mode) Valid() bool { return slices.Contains(Modes, m) }

// Type is the first member of a frame, and says what the rest is.
type Type string

// The types of frame; a reader refuses every other.
const (
	TypeSnapshot    Type = "snapshot"
	TypeObject      Type = "object"
	TypeSnapshotEnd Type = "snapshot_end"
	TypeChange      Type = "change"
	TypeNotice      Type = "notice"
	TypeSeal        Type = "seal"
	TypeHeartbeat   Type = "heartbeat"
)

// types are all of them, the most frequent first.
var types = [...]Type{TypeObject, TypeChange, TypeNotice, TypeSeal, TypeHeartbeat, TypeSnapshot, TypeSnapshotEnd}

// Position is a place in the history of a platform: the state right after
// Revision, to which the chain gives Hash.
type Position struct {
	Platform string
	Revision policies.Revision
	Hash     policies.Hash
}

// Frame is one line of the stream: a [*Snapshot], [*Object], [*SnapshotEnd],
// [*Change], [*Notice], [*Seal] or [*Heartbeat].
type Frame interface{ Type() Type }

var (
	_ Frame = (*Snapshot)(nil)
	_ Frame = (*Object)(nil)
	_ Frame = (*SnapshotEnd)(nil)
	_ Frame = (*Change)(nil)
	_ Frame = (*Notice)(nil)
	_ Frame = (*Seal)(nil)
	_ Frame = (*Heartbeat)(nil)
)

// Snapshot begins a snapshot: objects follow, which together are the state right
// after Revision.
type Snapshot struct {
	Platform string            `json:"platform"`
	Revision policies.Revision `json:"revision"`
	Hash     policies.Hash     `json:"hash"`
	Time     time.Time         `json:"time"`
	// After, in mode notices only, is the revision after which notices follow; it is
	// at most Revision. Notices up to Revision are history: the snapshot has their
	// effect. AfterHash is its chain hash.
	After     policies.Revision `json:"after,omitzero"`
	AfterHash policies.Hash     `json:"after_hash,omitzero"`
}

// Object is one object of a snapshot.
type Object struct{ policies.Object }

// SnapshotEnd ends a snapshot. Count is its number of objects, Digest what
// [Tally] makes of its lines.
type SnapshotEnd struct {
	Count      uint64             `json:"count"`
	Digest     policies.Hash      `json:"digest"`
	Signatures signing.Signatures `json:"signatures,omitempty"`
}

// Seal vouches for the changes or notices since the seal before: Count of them,
// Digest of their lines, and the Revision and chain Hash that the last of them leads to.
// A server without keys sends none.
type Seal struct {
	Count      uint64             `json:"count"`
	Digest     policies.Hash      `json:"digest"`
	Revision   policies.Revision  `json:"revision"`
	Hash       policies.Hash      `json:"hash"`
	Signatures signing.Signatures `json:"signatures"`
}

// Change is one revision, in full.
type Change struct{ policies.Change }

// Notice is one revision by the names of what it touched. The names may say too
// much (an environment whose groups changed is among IDs), never too little.
type Notice struct {
	Revision   policies.Revision `json:"revision"`
	Time       time.Time         `json:"time"`
	BodiesHash policies.Hash     `json:"bodies_hash"`
	AuditHash  policies.Hash     `json:"audit_hash"`
	Hash       policies.Hash     `json:"hash"`
	// Owners are the accounts whose state the revision touched, sorted.
	Owners []policies.AccountID `json:"owners,omitempty"`
	// IDs are the environments and groups that were made, deleted, moved or changed,
	// as policies.Resource.String writes them, sorted.
	IDs []string `json:"ids,omitempty"`
	// Subjects are the accounts that were made or deleted, sorted.
	Subjects []policies.AccountID `json:"subjects,omitempty"`
	// Objects are the policy in force and the tokens that it changed, in full.
	Objects []policies.Object `json:"objects,omitempty"`
}

// Heartbeat names the server's platform, present revision and time. Nonce is the
// asker's.
type Heartbeat struct {
	Platform string            `json:"platform"`
	Revision policies.Revision `json:"revision"`
	Hash     policies.Hash     `json:"hash"`
	Time     time.Time         `json:"time"`

	Nonce      string             `json:"nonce,omitempty"`
	Signatures signing.Signatures `json:"signatures,omitempty"`
}

// Type is [TypeSnapshot].
func (*Snapshot) Type() Type { return TypeSnapshot }

// Type is [TypeObject].
func (*Object) Type() Type { return TypeObject }

// Type is [TypeSnapshotEnd].
func (*SnapshotEnd) Type() Type { return TypeSnapshotEnd }

// Type is [TypeChange].
func (*Change) Type() Type { return TypeChange }

// Type is [TypeNotice].
func (*Notice) Type() Type { return TypeNotice }

// Type is [TypeSeal].
func (*Seal) Type() Type { return TypeSeal }

// Type is [TypeHeartbeat].
func (*Heartbeat) Type() Type { return TypeHeartbeat }

// NewNotice is what a sidecar on demand must know of c. The error says that c's
// objects do not decode.
func NewNotice(c policies.Change) (*Notice, error) {
	objects, err := c.DecodeObjects()
	if err != nil {
		return nil, err
	}
	n := &Notice{
		Revision: c.Revision, Time: c.Time, AuditHash: c.AuditHash, Hash: c.Hash,
		BodiesHash: sha256.Sum256(c.Objects),
	}
	for _, o := range objects {
		switch o.Kind {
		case policies.KindPolicyInForce, policies.KindToken:
			n.Objects = append(n.Objects, o)
			continue
		case policies.KindAccount:
			n.Owners = append(n.Owners, policies.AccountID(o.ID))
			n.Subjects = append(n.Subjects, policies.AccountID(o.ID))
			continue
		case policies.KindEnvironment:
			n.IDs = append(n.IDs, policies.Resource{Type: policies.TypeEnvironment, ID: o.ID}.String())
		case policies.KindGroup:
			n.IDs = append(n.IDs, policies.Resource{Type: policies.TypeGroup, ID: o.ID}.String())
		case policies.KindPolicy, policies.KindRole, policies.KindMember, policies.KindGrant:
		}
		n.Owners = append(n.Owners, o.Owner)
	}
	n.Owners, n.IDs, n.Subjects = set(n.Owners), set(n.IDs), set(n.Subjects)
	return n, nil
}

func set[T ~string](names []T) []T {
	slices.Sort(names)
	return slices.Compact(names)
}

// Follows checks that n comes right after the revision whose hash is previous, as
// policies.Change.Follows does. It proves that no revision is missing, not that the
// names are right.
func (n *Notice) Follows(revision policies.Revision, previous policies.Hash) error {
	return follows(n.Revision, revision, n.Hash, policies.ChainHash(previous, n.Revision, n.BodiesHash, n.AuditHash))
}

// follows classifies what is wrong with a revision next that claims to come right
// after revision, and to which the chain gives want.
func follows(next, revision policies.Revision, got, want policies.Hash) error {
	switch {
	case next <= revision:
		return refuse(RefusedRollback, fmt.Errorf("revision %d came after revision %d", next, revision))
	case next.Epoch() == revision.Epoch() && next != revision+1:
		return refuse(RefusedOutOfOrder, fmt.Errorf("revision %d came right after revision %d", next, revision))
	case got != want:
		return refuse(RefusedAltered, fmt.Errorf("the hash of revision %d does not follow from revision %d", next, revision))
	}
	return nil
}

// changeFollows is policies.Change.Follows with the fault classified.
func changeFollows(c policies.Change, p Position) error {
	want := policies.ChainHash(p.Hash, c.Revision, sha256.Sum256(c.Objects), c.AuditHash)
	return follows(c.Revision, p.Revision, c.Hash, want)
}

// Tally counts and digests the lines of a snapshot, on both ends: the snapshot
// frame's line and each object's, without the heartbeats between them. A batch of
// lines is hashed while the next is gathered: of a large snapshot it is a fifth of the
// work that cannot be dealt out otherwise.
type Tally struct {
	count uint64
	hash  hash.Hash // of what was gathered before; the worker's until work is closed

	lines []byte
	spare []byte        // the batch before
	work  chan struct{} // closed when the batch before is hashed; nil: there is none
}

const tallyBatch = 128 << 10

// NewTally begins with the line of the snapshot frame, without its line feed.
func NewTally(line []byte) *Tally {
	t := newTally()
	t.write(line)
	return t
}

func newTally() *Tally { return &Tally{hash: sha256.New()} }

// Object adds the line of an object frame, without its line feed.
func (t *Tally) Object(line []byte) {
	t.count++
	t.write(line)
}

func (t *Tally) write(line []byte) {
	t.lines = append(append(t.lines, line...), '\n')
	if len(t.lines) < tallyBatch {
		return
	}
	t.wait()
	batch, work := t.lines, make(chan struct{})
	t.lines, t.spare, t.work = t.spare[:0], batch, work
	go func() { // ends by itself, whether or not anybody waits
		defer close(work)
		t.hash.Write(batch)
	}()
}

func (t *Tally) wait() {
	if t.work != nil {
		<-t.work
		t.work = nil
	}
}

// End is the frame that ends the snapshot.
func (t *Tally) End() *SnapshotEnd {
	t.wait()
	t.hash.Write(t.lines)
	t.lines = t.lines[:0]
	return &SnapshotEnd{Count: t.count, Digest: policies.Hash(t.hash.Sum(nil))}
}

// rawObjects is the member objects of a change, which must be written as the very
// bytes that were hashed.
func rawObjects(c policies.Change) (jsontext.Value, error) {
	if !c.Objects.IsValid() || c.Objects.Kind() != '[' {
		return nil, fmt.Errorf("the objects of revision %d are not a JSON array", c.Revision)
	}
	for _, b := range c.Objects {
		if b == '\n' || b == '\r' {
			return nil, fmt.Errorf("the objects of revision %d are not on one line", c.Revision)
		}
	}
	return c.Objects, nil
}
