package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

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
// whoever takes our password is ours. Any failure means that it is not.
func endOrphan(ctx context.Context, st *state, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	if err := orderShutdown(ctx, st.RedisPort, st.RedisPassword); err != nil {
		log.InfoContext(ctx, "who listens on the port of Redis is not ours", "port", st.RedisPort, "error", err)
		return
	}
	log.InfoContext(ctx, "ending a redis server that an earlier run left", "port", st.RedisPort)
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

// orderShutdown logs in and sends SHUTDOWN, by hand: go-redis has no client
// without a pool that goes on dialing for a while.
func orderShutdown(ctx context.Context, port int, password string) (err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(conn, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n", len(password), password); err != nil {
		return err
	}
	const ok = "+OK\r\n"
	answer := make([]byte, len(ok))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != ok {
		return fmt.Errorf("it answered %q to our password", answer)
	}
	_, err = io.WriteString(conn, "*2\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n")
	return err
}

// redisURL is where sidecars find Redis.
func redisURL(st *state) string {
	return fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", st.RedisPassword, st.RedisPort)
}
