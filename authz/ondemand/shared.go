package ondemand

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// The times of Redis. It is a cache: what takes longer is faster without it.
const (
	// redisTimeout bounds one round trip, the wait for a connection included.
	redisTimeout = 150 * time.Millisecond
	// redisReadTimeout and redisWriteTimeout bound one read and one write of it.
	redisReadTimeout  = 100 * time.Millisecond
	redisWriteTimeout = 100 * time.Millisecond
	// redisDialTimeout bounds a connection's making, the handshake included; it goes
	// on after the request that wanted it went on without.
	redisDialTimeout = time.Second
	// redisWriteBatch is how many entries go into one pipeline of writes.
	redisWriteBatch = 64
	// redisReadBatch is how many keys one pipeline asks for.
	redisReadBatch = 512
	// redisFillTimeout bounds a pipeline of writes; nobody waits for it.
	redisFillTimeout = time.Second
)

// shared is Redis as the engine uses it: bounded reads and writes of values by
// key, behind a breaker.
type shared struct {
	client  redis.UniversalClient
	breaker *breaker
	metrics *metrics
}

// errWrongType is a key that holds something else than a string.
var errWrongType = errors.New("the key does not hold a string")

// value is what Redis has under a key: data, empty where there is nothing, or the
// error for this key alone.
type value struct {
	data []byte
	err  error
}

// read gives the values of names under their keys, in one round trip per
// [redisReadBatch] of them. Of each value no more than its limit and one byte is
// read: what somebody put there may be large. The error says that Redis did not
// answer at all; single failures, such as of one node of a Cluster, are in the
// values.
func (s *shared) read(ctx context.Context, keys []string, names []name) ([]value, error) {
	values := make([]value, len(keys))
	for begin := 0; begin < len(keys); begin += redisReadBatch {
		end := min(begin+redisReadBatch, len(keys))
		if err := s.readBatch(ctx, keys[begin:end], names[begin:end], values[begin:end]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (s *shared) readBatch(ctx context.Context, keys []string, names []name, values []value) error {
	return s.breaker.do(ctx, func() error {
		defer s.metrics.since(layerRedis, time.Now())
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		if len(keys) == 1 {
			data, err := s.client.GetRange(ctx, keys[0], 0, int64(maxValue(names[0].kind))).Bytes()
			values[0], err = single(data, err)
			return err
		}
		pipe := s.client.Pipeline()
		commands := make([]*redis.StringCmd, len(keys))
		for i, k := range keys {
			commands[i] = pipe.GetRange(ctx, k, 0, int64(maxValue(names[i].kind)))
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		return collect(commands, values)
	})
}

// collect takes the commands' answers; the error is that of the last that failed,
// if none was answered.
func collect(commands []*redis.StringCmd, values []value) error {
	var last error
	answered := false
	for i, c := range commands {
		data, err := c.Bytes()
		if values[i], err = single(data, err); err != nil {
			values[i].err, last = err, err
			continue
		}
		answered = true
	}
	if answered {
		return nil
	}
	return last
}

// single sorts one command's answer: errors that only this key has are the
// value's, all others are Redis's.
func single(data []byte, err error) (value, error) {
	switch {
	case err == nil:
		return value{data: data}, nil
	case errors.Is(err, redis.Nil):
		return value{}, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return value{err: errWrongType}, nil
	}
	return value{}, err
}

// entry is a value to be written.
type entry struct {
	key   string
	value []byte
	ttl   time.Duration
}

// write puts entries into Redis, at most [redisWriteBatch] of them, and tells how
// many went in. What Redis refuses (it is full, or a replica) says nothing about
// whether it can be read, so only a connection that fails counts for the breaker.
func (s *shared) write(ctx context.Context, entries []entry) (written int, err error) {
	err = s.breaker.do(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, redisFillTimeout)
		defer cancel()
		pipe := s.client.Pipeline()
		commands := make([]*redis.StatusCmd, len(entries))
		for i, e := range entries {
			commands[i] = pipe.Set(ctx, e.key, e.value, e.ttl)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		var failed error
		refused := false
		for _, c := range commands {
			var reply redis.Error
			switch err := c.Err(); {
			case err == nil:
				written++
			case errors.As(err, &reply):
				refused = true
			default:
				failed = err
			}
		}
		if written > 0 || refused {
			return nil
		}
		return failed
	})
	if err != nil {
		return written, fmt.Errorf("write %d entries to redis: %w", len(entries), err)
	}
	return written, nil
}

func (s *shared) close() error { return s.client.Close() }
