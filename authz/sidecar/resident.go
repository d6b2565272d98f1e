package sidecar

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/server"
)

const (
	// confirmTimeout is for a heartbeat, of which one comes a second.
	confirmTimeout = 2 * feed.HeartbeatInterval
	confirmPoll    = 10 * time.Millisecond
)

// resident answers from memory, fed with every change.
type resident struct {
	*authz.Engine
	feed *feed.Client
	disk *onDisk // nil: nothing is kept
}

func newResident(o Options, checks func() float64) (*resident, error) {
	engine, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	options := feed.Options{
		URL: o.AdminURL, Token: o.Token, TLS: o.AdminTLS, Sink: engine, Verifier: o.Verifier, Self: o.self(checks),
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry,
	}
	s := &resident{Engine: engine}
	if o.Dir != "" {
		if s.disk, err = newOnDisk(o, engine); err != nil {
			return nil, err
		}
		options.Confirmed, options.Witness = s.disk.keeper.Confirm, s.disk.witness
	}
	if s.feed, err = feed.New(options); err != nil {
		return nil, fmt.Errorf("follow the feed: %w", err)
	}
	return s, nil
}

// newEngine makes the engine of the modes that hold a whole state.
func newEngine(o Options) (*authz.Engine, error) {
	return authz.New(authz.Options{
		Clock: o.Clock, CacheLimit: o.CacheLimit, MinRevisionWait: o.MinRevisionWait,
		Logger: o.Logger, Registerer: o.Registry,
	})
}

func (s *resident) tokens() server.Tokens { return server.StateTokens(s.State) }

func (s *resident) now() time.Time { return s.Now() }

// run follows the feed until ctx ends, and with a disk on until the present state was
// confirmed: else what is kept last would be that of the last heartbeat, which a
// revocation may have followed.
func (s *resident) run(ctx context.Context) error {
	if s.disk == nil {
		return s.feed.Run(ctx)
	}
	following, end := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { s.disk.keeper.Run(following) })
	work.Go(func() {
		defer end()
		<-ctx.Done()
		s.settle()
	})
	err := s.feed.Run(following)
	work.Wait()
	return err
}

// settle returns once the state that was present when it was called is confirmed, or
// nobody is there to do it.
func (s *resident) settle() {
	present, late := s.feed.Status().Revision, time.After(confirmTimeout)
	tick := time.NewTicker(confirmPoll)
	defer tick.Stop()
	for s.feed.Status().Connected && s.disk.keeper.Confirmed() < present {
		select {
		case <-tick.C:
		case <-late:
			return
		}
	}
}

func (s *resident) status() status {
	of := feedStatus(s.feed)
	if s.disk == nil || of.ready || s.State() == nil {
		return of
	}
	if of.reason = s.disk.refuses(s.feed.Status()); of.reason == "" {
		of.ready = true
	}
	if age, ok := s.disk.age(); ok && !of.aged {
		of.age, of.aged = age, true
	}
	return of
}

// usable is an error while the state on disk is all there is, and may not be answered
// from.
func (s *resident) usable() error {
	if s.disk == nil || s.feed.Ready() {
		return nil
	}
	if reason := s.disk.refuses(s.feed.Status()); reason != "" {
		return &authz.UnavailableError{Reason: reason}
	}
	return nil
}

// feedStatus is how a source stands that follows the feed.
func feedStatus(client *feed.Client) status {
	now := client.Status()
	of := status{ready: now.Ready, revision: now.Revision}
	of.age, of.aged = client.Age()
	if !now.Ready {
		of.reason = "it has not caught up with the feed yet"
		if !now.Connected {
			of.reason = "it has not reached the admin server yet"
		}
	}
	return of
}
