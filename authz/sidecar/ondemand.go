package sidecar

import (
	"context"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand"
	"github.com/usher-authz/usher/authz/server"
)

// onDemand answers from what it fetches when it is asked.
type onDemand struct {
	*ondemand.Engine
	clock func() time.Time
}

func newOnDemand(o Options, checks func() float64) (*onDemand, error) {
	engine, err := ondemand.New(ondemand.Options{
		FeedURL: o.AdminURL, Token: o.Token, TLS: o.AdminTLS, Verifier: o.Verifier, Self: o.self(checks),
		Redis: o.Redis, RedisKeys: o.RedisKeys,
		MemoryLimit: o.MemoryLimit, MinRevisionWait: o.MinRevisionWait,
		Clock: o.Clock, Logger: o.Logger, Registerer: o.Registry,
	})
	if err != nil {
		return nil, err
	}
	return &onDemand{engine, o.Clock}, nil
}

func (s *onDemand) tokens() server.Tokens { return onDemandTokens{s.Engine} }

func (s *onDemand) now() time.Time { return s.Now() }

func (s *onDemand) run(ctx context.Context) error { return s.Run(ctx) }

func (s *onDemand) status() status {
	now := s.FeedStatus()
	of := status{ready: now.Ready && s.Ready() == nil, revision: s.Revision()}
	if !now.Fresh.IsZero() {
		of.age, of.aged = max(s.clock().Sub(now.Fresh), 0), true
	}
	if !of.ready {
		of.reason = "it has not caught up with the feed yet"
		if !now.Connected {
			of.reason = "it has not reached the admin server yet"
		}
	}
	return of
}

// onDemandTokens are the tokens that the feed has told.
type onDemandTokens struct{ engine *ondemand.Engine }

// Token implements [server.Tokens].
func (t onDemandTokens) Token(hash string) (authz.Token, bool, error) {
	if err := t.engine.Ready(); err != nil {
		return authz.Token{}, false, err
	}
	token, ok := t.engine.Token(hash)
	return token, ok, nil
}
