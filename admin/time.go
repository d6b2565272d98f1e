package admin

import (
	"context"
	"sync"
	"time"

	"github.com/usher-authz/usher/admin/store"
)

// timeInterval is how often what the clock has ended is written down. Nothing waits
// for it: an invitation that has ended is refused before.
const timeInterval = time.Minute

// goTime writes down what the clock has ended, until it is stopped.
func (s *Server) goTime(ctx context.Context, db *store.Store) {
	living, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		ticker := time.NewTicker(timeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-living.Done():
				return
			case <-ticker.C:
			}
			ended, err := db.ExpireInvitations(living)
			switch {
			case err != nil && living.Err() == nil:
				s.options.Logger.WarnContext(living, "invitations could not be ended, and will be", "error", err)
			case ended > 0:
				s.options.Logger.InfoContext(living, "invitations have expired", "count", ended)
			}
		}
	})
	s.push("the clock", func(ctx context.Context) error {
		cancel()
		return wait(ctx, work.Wait)
	})
}
