package admin

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/usher-authz/usher/admin/store"
)

const (
	// A use is written down only this long after the one before.
	useInterval = time.Minute
	// usesPause is between two writes, each of all that is new; usesTimeout bounds one.
	usesPause   = 5 * time.Second
	usesTimeout = 5 * time.Second
)

// tokenUses gathers which tokens were used when, off the way of requests: those wait
// for a mutex at most. There are as many as there are tokens.
type tokenUses struct {
	mu    sync.Mutex
	noted map[string]time.Time // the last use that was written down, or is about to be
	fresh map[string]time.Time // what is not written down
}

func newTokenUses() *tokenUses {
	return &tokenUses{noted: map[string]time.Time{}, fresh: map[string]time.Time{}}
}

func (u *tokenUses) note(id string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.noted[id]; ok && now.Sub(last).Abs() < useInterval {
		return
	}
	u.noted[id], u.fresh[id] = now, now
}

// take is what is new.
func (u *tokenUses) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.fresh
	u.fresh = map[string]time.Time{}
	return taken
}

// restore puts back what could not be written, unless it is newer by now.
func (u *tokenUses) restore(taken map[string]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(taken, u.fresh)
	u.fresh = taken
}

// run writes what is new now and then, and what is left when ctx ends.
func (u *tokenUses) run(ctx context.Context, s *store.Store, log *slog.Logger) {
	pause := time.NewTicker(usesPause)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
			u.write(ctx, s, log)
		case <-ctx.Done():
			u.write(context.WithoutCancel(ctx), s, log)
			return
		}
	}
}

func (u *tokenUses) write(ctx context.Context, s *store.Store, log *slog.Logger) {
	taken := u.take()
	if len(taken) == 0 {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, usesTimeout)
	defer cancel()
	if err := s.NoteTokenUses(bounded, taken); err != nil {
		u.restore(taken)
		log.DebugContext(ctx, "the uses of tokens are not written down yet", "error", err) // the tail tells of outages
	}
}
