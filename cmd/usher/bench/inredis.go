package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/ondemand"
)

const (
	timedRedisChecks = 200
	redisKeys        = 1000
)

// inRedis asks an engine on demand that keeps nothing in memory, so that each check is
// a look into Redis, beside a GET of the same entries by the same client.
func (b *bench) inRedis(ctx context.Context) error {
	if b.o.Redis == nil {
		return nil
	}
	b.tellf("checks on demand, in Redis")
	engine, err := ondemand.New(ondemand.Options{
		FeedURL: b.o.AdminURL, Token: b.o.Token, Redis: b.o.Redis, RedisKeys: b.o.RedisKeys, MemoryLimit: 1,
	})
	if err != nil {
		return fmt.Errorf("make an engine on demand: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { _ = engine.Run(running) }) // it ends with running, and says no more
	defer func() {
		stop()
		following.Wait()
	}()
	if err := awaitFeed(ctx, engine); err != nil {
		return err
	}
	var failed error
	at := 0
	checks := func(n int) {
		for range n {
			q := &b.questions[at%redisKeys].Question
			at++
			d, err := engine.Check(ctx, 0, authz.Question{
				SubjectType: q.SubjectType, Subject: q.Subject, Action: q.Action, ResourceType: q.ResourceType, ResourceID: q.ResourceID,
			})
			if want := b.questions[(at-1)%redisKeys].want; err == nil && d.Allow != want.Decision {
				b.report.InRedis.Wrong++
			}
			failed = cmp.Or(failed, err)
		}
	}
	b.report.InRedis = &Miss{}
	checks(redisKeys) // the first time they come from the admin server
	client := redis.NewUniversalClient(b.o.Redis)
	defer func() { _ = client.Close() }()
	keys, err := permissionKeys(ctx, client)
	if err != nil {
		return err
	}
	// This process holds the whole platform to compare answers with, and has left much
	// behind, which no sidecar on demand does: to collect that is not a check's cost.
	runtime.GC()
	ours, theirs := fastest(timedRedisChecks, checks, func(n int) {
		for i := range n {
			failed = cmp.Or(failed, client.Get(ctx, keys[i%len(keys)]).Err())
		}
	})
	b.report.InRedis.Nanoseconds, b.report.InRedis.OfFloor = ours/timedRedisChecks, ours/theirs
	return failed
}

func awaitFeed(ctx context.Context, engine *ondemand.Engine) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(startInterval)
	defer ticker.Stop()
	for !engine.FeedStatus().Ready {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the engine on demand does not catch up with the feed: %w", ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// permissionKeys are some of those under which permissions stand in Redis.
func permissionKeys(ctx context.Context, client redis.UniversalClient) ([]string, error) {
	var keys []string
	found := client.Scan(ctx, 0, "usher/*/p/*", redisKeys).Iterator()
	for len(keys) < redisKeys && found.Next(ctx) {
		keys = append(keys, found.Val())
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("look what stands in Redis: %w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("the engine on demand put nothing into Redis")
	}
	return keys, nil
}
