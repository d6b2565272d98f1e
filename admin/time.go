package admin

import (
	"context"
	"sync"
	"time"

	"github.com/usher-authz/usher/admin/news"
	"github.com/usher-authz/usher/admin/store"
)

const (
	// timeInterval is how often what the clock has ended is written down. Nothing waits
	// for it: an invitation that has ended is refused before.
	timeInterval = time.Minute
	// newsInterval is how often it is looked whether members are to be told of changes,
	// for windows that are not shorter; newsTimeout bounds one look.
	newsInterval    = 2 * time.Second
	minNewsInterval = 100 * time.Millisecond
	newsTimeout     = 10 * time.Minute
)

// every does something again and again until the server is stopped.
func (s *Server) every(ctx context.Context, name string, interval time.Duration, do func(context.Context)) {
	living, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-living.Done():
				return
			case <-ticker.C:
			}
			do(living)
		}
	})
	s.push(name, func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}

// goTime writes down what the clock has ended, until it is stopped.
func (s *Server) goTime(ctx context.Context, db *store.Store) {
	s.every(ctx, "the clock", timeInterval, func(ctx context.Context) {
		ended, err := db.ExpireInvitations(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.options.Logger.WarnContext(ctx, "invitations could not be ended, and will be", "error", err)
		case ended > 0:
			s.options.Logger.InfoContext(ctx, "invitations have expired", "count", ended)
		}
		cleaned, err := db.CleanGrants(ctx, s.options.Clock().Add(-max(s.options.GrantRetention, 0)))
		switch {
		case err != nil && ctx.Err() == nil:
			s.options.Logger.WarnContext(ctx, "grants that have ended could not be cleaned away, and will be", "error", err)
		case cleaned > 0:
			s.options.Logger.InfoContext(ctx, "grants that had ended were cleaned away", "count", cleaned)
		}
	})
}

// goNews tells members what edits have changed for them, where there are mails.
func (s *Server) goNews(ctx context.Context, db *store.Store) {
	if !s.options.mails() {
		return
	}
	teller := news.NewTeller(db, s.engine.State, s.options.Clock)
	window := max(s.options.MailWindow, 0)
	s.every(ctx, "the news", max(min(newsInterval, window), minNewsInterval), func(ctx context.Context) {
		bounded, cancel := context.WithTimeout(ctx, newsTimeout)
		defer cancel()
		err := db.TellNews(bounded, s.options.Clock().Add(-window), teller.News)
		if err != nil && ctx.Err() == nil {
			s.options.Logger.WarnContext(ctx, "members could not be told of changes, and will be", "error", err)
		}
	})
}
