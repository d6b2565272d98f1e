package ondemand

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// The times of Redis. It is a cache: what takes longer is faster without it.
const (
	// redisTimeout bounds one round trip, the wait for a connection included.
	redisTimeout = 150 * time.Millisecond
	// redisDialTimeout bounds a connection's making, the handshake included; it goes
	// on after the request that wanted it went on without.
	redisDialTimeout = time.Second
	// redisWriteBatch is how many entries go into one pipeline of writes.
	redisWriteBatch = 64
	// redisReadBudget bounds the bytes that one pipeline of reads may bring, so that
	// large values that somebody put there cost time, not memory.
	redisReadBudget = 8 << 20
	// redisFirstRead is how much of an account is read at first: most are smaller. It
	// lets a pipeline ask for 256 of them.
	redisFirstRead = 32 << 10
	// redisFillTimeout bounds a pipeline of writes; nobody waits for it.
	redisFillTimeout = time.Second
)

// shared is Redis as the engine uses it: bounded reads and writes of values by
// key, behind a breaker.
type shared struct {
	client  redis.UniversalClient
	timeout time.Duration // of a round trip that somebody waits for
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

// read is one key to be read, no further than limit and one byte more.
type read struct {
	at    int // its place among the names asked for
	key   string
	limit int
}

// read gives what stands under the keys of names to found, in one round trip for
// as many of them as [redisReadBudget] allows, and one more for large accounts. Data
// is found's only until it returns. Where Redis does not answer, the values have the
// error.
func (s *shared) read(ctx context.Context, keys []string, names []name, found func(i int, v value)) {
	reads := make([]read, len(names))
	for i, n := range names {
		reads[i] = read{at: i, key: keys[i], limit: maxValue(n.kind)}
		if n.kind == kindAccount {
			reads[i].limit = redisFirstRead
		}
	}
	var larger []read
	s.readAll(ctx, reads, func(r read, v value) {
		if whole := maxValue(names[r.at].kind); len(v.data) > r.limit && r.limit < whole {
			larger = append(larger, read{at: r.at, key: r.key, limit: whole})
			return
		}
		found(r.at, v)
	})
	s.readAll(ctx, larger, func(r read, v value) { found(r.at, v) })
}

// readAll reads in pipelines within the budget.
func (s *shared) readAll(ctx context.Context, reads []read, found func(read, value)) {
	for len(reads) > 0 {
		n, bytes := 0, 0
		for n < len(reads) && (n == 0 || bytes+reads[n].limit <= redisReadBudget) {
			bytes += reads[n].limit
			n++
		}
		values := make([]value, n)
		err := s.readBatch(ctx, reads[:n], values)
		for i, v := range values {
			if err != nil {
				v = value{err: err}
			}
			found(reads[i], v)
		}
		reads = reads[n:]
	}
}

// readBatch is one round trip. The error says that Redis did not answer at all;
// single failures, such as of one node of a Cluster, are in the values.
func (s *shared) readBatch(ctx context.Context, reads []read, values []value) error {
	return s.breaker.do(ctx, func() error {
		defer s.metrics.since(layerRedis, time.Now())
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		if len(reads) == 1 {
			data, err := s.client.GetRange(ctx, reads[0].key, 0, int64(reads[0].limit)).Bytes()
			values[0], err = single(data, err)
			return err
		}
		pipe := s.client.Pipeline()
		commands := make([]*redis.StringCmd, len(reads))
		for i, r := range reads {
			commands[i] = pipe.GetRange(ctx, r.key, 0, int64(r.limit))
		}
		if err := exec(ctx, pipe); err != nil {
			return err
		}
		return collect(commands, values)
	})
}

// exec sends what is in pipe. Each command has its own error then. The error given is
// that of a connection which a reply refused (a wrong password, too many clients):
// go-redis leaves the commands without one, as if they had been done.
func exec(ctx context.Context, pipe redis.Pipeliner) error {
	commands, err := pipe.Exec(ctx)
	if slices.ContainsFunc(commands, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return nil
	}
	return err
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
// whether it can be read, so that it counts neither for nor against it, and is given
// back; of what else fails the breaker tells.
func (s *shared) write(ctx context.Context, entries []entry) (written int, refused error) {
	_ = s.breaker.do(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, redisFillTimeout)
		defer cancel()
		pipe := s.client.Pipeline()
		commands := make([]*redis.StatusCmd, len(entries))
		for i, e := range entries {
			commands[i] = pipe.Set(ctx, e.key, e.value, e.ttl)
		}
		if err := exec(ctx, pipe); err != nil {
			return err
		}
		var failed error
		for _, c := range commands {
			var reply redis.Error
			switch err := c.Err(); {
			case err == nil:
				written++
			case errors.As(err, &reply):
				refused = err
			default:
				failed = err
			}
		}
		switch {
		case written > 0:
			return nil
		case refused != nil:
			return errSaysNothing
		}
		return failed
	})
	return written, refused
}

func (s *shared) close() error { return s.client.Close() }
