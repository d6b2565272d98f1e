package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-authz/usher/policies"
)

// onDemand receives notices into a [NoticeSink].
type onDemand struct {
	sink  NoticeSink
	begun bool     // at is where the sink is
	at    Position // of the last notice, or of the beginning's After
	// start is the snapshot that the sink began with; it may lie ahead of at, and
	// what notices up to it say is history.
	start Position
	// good is the last position that stands: a start counts once the notices have
	// led to it.
	good    Position
	pending *Beginning // being built
	after   policies.Hash
}

var _ receiver = (*onDemand)(nil)

func (d *onDemand) mode() Mode { return ModeNotices }

func (d *onDemand) position() (Position, bool) { return d.at, d.begun }

func (d *onDemand) floor() (Position, bool) { return d.good, d.good.Platform != "" }

func (d *onDemand) begin(s *Snapshot) error {
	d.pending = &Beginning{
		Position: Position{Platform: s.Platform, Revision: s.Revision, Hash: s.Hash},
		After:    s.After,
	}
	d.after = s.AfterHash
	if s.After.Epoch() != s.Revision.Epoch() {
		return refuse(RefusedMalformed, errors.New("a snapshot's after is of another epoch"))
	}
	if s.After == s.Revision && s.AfterHash != s.Hash {
		return refuse(RefusedMalformed, errors.New("a snapshot has two hashes"))
	}
	return nil
}

func (d *onDemand) add(o policies.Object) error {
	switch o.Kind {
	case policies.KindPolicyInForce, policies.KindToken:
		d.pending.Objects = append(d.pending.Objects, o)
		return nil
	case policies.KindAccount, policies.KindGroup, policies.KindEnvironment, policies.KindPolicy,
		policies.KindRole, policies.KindMember, policies.KindGrant:
	}
	return refuse(RefusedMalformed, fmt.Errorf("a %s is not for a sidecar on demand", o.Kind))
}

func (d *onDemand) finish(context.Context) error {
	b := d.pending
	d.pending = nil
	// From here on the old position is void, whether or not the sink takes the new.
	d.begun = false
	if err := d.sink.Begin(*b); err != nil {
		return err
	}
	d.start = b.Position
	d.at = Position{Platform: b.Platform, Revision: b.After, Hash: d.after}
	d.begun = true
	d.stand()
	return nil
}

func (d *onDemand) drop() { d.pending = nil }

func (d *onDemand) change(context.Context, policies.Change) error {
	return errors.New("a client on demand takes no changes")
}

func (d *onDemand) notice(n *Notice) error {
	if n.Revision == d.start.Revision && n.Hash != d.start.Hash {
		d.begun = false
		return refuse(RefusedAltered, fmt.Errorf("the notices do not lead to the snapshot of revision %d", n.Revision))
	}
	if n.Revision <= d.start.Revision {
		n.Objects = nil
	}
	if err := d.sink.Notice(*n); err != nil {
		d.begun = false
		return err
	}
	d.at.Revision, d.at.Hash = n.Revision, n.Hash
	d.stand()
	return nil
}

// stand makes at the last good position, if it has come as far as the start.
func (d *onDemand) stand() {
	if d.at.Revision >= d.start.Revision {
		d.good = d.at
	}
}

func (d *onDemand) observe(t time.Time) { d.sink.Observe(t) }
