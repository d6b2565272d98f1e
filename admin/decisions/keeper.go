package decisions

import (
	"context"
	"log/slog"
	"time"

	"github.com/usher-authz/usher/admin/store"
)

// keepInterval is how often the partitions are looked after. They are made days
// ahead, so that a database that is away for a while does no harm.
const keepInterval = time.Hour

// retryInterval is the pause after a look that failed.
const retryInterval = time.Minute

// Keeper looks after the partitions of the decisions. Any number of replicas may
// have one.
type Keeper struct {
	Store     *store.Store
	Retention time.Duration
	Logger    *slog.Logger
}

// Run looks after the partitions until ctx ends.
func (k Keeper) Run(ctx context.Context) {
	for {
		pause := keepInterval
		if err := k.Store.KeepDecisions(ctx, k.Retention); err != nil && ctx.Err() == nil {
			k.Logger.WarnContext(ctx, "the partitions of the decisions could not be looked after; trying again", "error", err)
			pause = retryInterval
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
