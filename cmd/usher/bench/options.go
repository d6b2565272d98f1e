package bench

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
)

// MinOwners is the least platform: the members of an owner are the owners after it.
const MinOwners = membersEach + 1

// Options say what to measure, and on what.
type Options struct {
	AdminURL string // the admin server, on which the generated accounts are imported
	Token    string // a service token with the scopes resources, collaboration, checks and bundles
	Program  string // the usher that the sidecars and the floor are run from
	OPA      string // a stock OPA to compare with; empty: none

	Owners      int
	Seed        uint64
	Connections int           // that ask at the same time
	Duration    time.Duration // of each load
	Sidecars    int           // that the changes are watched at
	Changes     int           // grants that are given and taken back, to see how soon that counts
	Checks      int           // that are asked beside further changes, at least, and for Duration
	// Redis is that of sidecars on demand, with the keys of what stands in it; nil: none.
	Redis     *redis.UniversalOptions
	RedisKeys [][]byte

	Progress io.Writer // a line for each step
}

func (o *Options) validate() error {
	var errs []error
	for _, n := range []struct {
		name        string
		value, from int
	}{
		{"owners", o.Owners, MinOwners},
		{"connections", o.Connections, 1}, {"sidecars", o.Sidecars, 1}, {"changes", o.Changes, 1},
	} {
		if n.value < n.from {
			errs = append(errs, fmt.Errorf("--%s must be at least %d", n.name, n.from))
		}
	}
	if o.Checks < 0 {
		errs = append(errs, errors.New("--checks must not be negative"))
	}
	if o.Duration <= 0 {
		errs = append(errs, errors.New("--duration must be longer than nothing"))
	}
	return errors.Join(errs...)
}
