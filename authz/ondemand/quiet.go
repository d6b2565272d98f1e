package ondemand

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// quietRedis keeps go-redis from writing to standard error for each connection
// that fails: its logger is one for the whole process. The breaker says, once, that
// Redis is gone, and once that it is back.
func quietRedis() { redis.SetLogger(silence{}) }

type silence struct{}

// Printf drops the line.
func (silence) Printf(context.Context, string, ...any) {}
