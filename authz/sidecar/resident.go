package sidecar

import (
	"context"
	"fmt"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/authz/server"
)

// resident answers from memory, fed with every change.
type resident struct {
	*authz.Engine
	feed *feed.Client
}

func newResident(o Options) (*resident, error) {
	engine, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	client, err := feed.New(feed.Options{
		URL: o.AdminURL, Token: o.Token, TLS: o.AdminTLS, Sink: engine, Verifier: o.Verifier,
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("follow the feed: %w", err)
	}
	return &resident{engine, client}, nil
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

func (s *resident) run(ctx context.Context) error { return s.feed.Run(ctx) }

func (s *resident) status() status { return feedStatus(s.feed) }

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
