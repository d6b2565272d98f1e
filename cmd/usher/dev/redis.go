package dev

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/authz/ondemand/redisserver"
)

const (
	// orphanTimeout bounds the talk with a Redis that an earlier run left.
	orphanTimeout  = 2 * time.Second
	orphanInterval = 20 * time.Millisecond
)

// startRedis starts Redis on the port of earlier runs, or on another one if
// somebody else has that now.
func startRedis(ctx context.Context, dir string, st *state, log *slog.Logger) (*redisserver.Server, error) {
	if st.RedisPort == 0 {
		if err := choosePort(ctx, &st.RedisPort, st); err != nil {
			return nil, err
		}
	} else if portTaken(ctx, st.RedisPort) {
		endOrphan(ctx, st, log)
	}
	if portTaken(ctx, st.RedisPort) {
		if err := choosePort(ctx, &st.RedisPort, st); err != nil {
			return nil, err
		}
	}
	return redisserver.Start(ctx, redisserver.Options{Port: st.RedisPort, Password: st.RedisPassword, Dir: dir, Logger: log})
}

// endOrphan shuts down the Redis that an earlier run left when it was killed:
// whoever knows our password is ours. Any failure means that it is not.
func endOrphan(ctx context.Context, st *state, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	client := redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(st.RedisPort)), Password: st.RedisPassword, MaxRetries: -1,
		DialTimeout: orphanTimeout, ReadTimeout: orphanTimeout,
	})
	defer func() { _ = client.Close() }()
	if err := client.Ping(ctx).Err(); err != nil {
		return
	}
	log.InfoContext(ctx, "ending a redis server that an earlier run left", "port", st.RedisPort)
	if err := client.ShutdownNoSave(ctx).Err(); err != nil && !strings.Contains(err.Error(), "EOF") {
		log.WarnContext(ctx, "the redis server of an earlier run did not take the order to end", "error", err)
	}
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for portTaken(ctx, st.RedisPort) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// redisURL is where sidecars find Redis.
func redisURL(st *state) string {
	return fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", st.RedisPassword, st.RedisPort)
}
