package sidecar

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/disk"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies"
)

// onDisk is what a resident sidecar begins with, and when it may answer from that: not
// before the admin server was tried, and only if the snapshot was confirmed fresh
// lately (architecture.md, Promises).
type onDisk struct {
	keeper     *disk.Keeper
	clock      func() time.Time
	confirmed  time.Time       // zero: never
	witness    *feed.Heartbeat // that confirmed it; nil: none that was verified
	maxOffline time.Duration
}

// newOnDisk puts what is on disk in force.
func newOnDisk(o Options, engine *authz.Engine) (*onDisk, error) {
	keeper, err := disk.New(disk.Options{
		Dir: o.Dir, Key: disk.Key(o.Token), State: engine.State, Verifier: o.Verifier, Interval: o.SnapshotInterval,
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, err
	}
	d := &onDisk{keeper: keeper, clock: o.Clock, maxOffline: o.MaxOffline}
	kept := keeper.Load(context.Background())
	if kept.State == nil {
		return d, nil
	}
	if err := engine.Reset(kept.State); err != nil {
		return nil, fmt.Errorf("put the snapshot on disk in force: %w", err)
	}
	if kept.Confirmed != nil {
		d.confirmed = kept.Confirmed.Time
		if o.Verifier != nil {
			d.witness = kept.Confirmed
		}
		engine.Recall(d.confirmed) // a clock that was set back does not revive a grant
	}
	return d, nil
}

// age is how long ago the snapshot was confirmed fresh.
func (d *onDisk) age() (time.Duration, bool) {
	return max(d.clock().Sub(d.confirmed), 0), !d.confirmed.IsZero()
}

// refuses says why the snapshot may not be answered from; empty: it may.
func (d *onDisk) refuses(now feed.Status) string {
	age, known := d.age()
	switch {
	case now.Revision == policies.Revision(0):
		return "it has not reached the admin server yet"
	case now.Failed == 0:
		return "it has not caught up with the feed yet"
	case now.Rejected:
		return "the admin server is there, and does not serve this sidecar: see its log"
	case !known:
		return "it has not reached the admin server, and its snapshot on disk was never confirmed"
	case age > d.maxOffline:
		return fmt.Sprintf("it has not reached the admin server, and its snapshot on disk was last confirmed %s ago, over %s",
			age.Round(time.Second), d.maxOffline)
	}
	return ""
}
