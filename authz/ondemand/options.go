package ondemand

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies/signing"
)

// The defaults of [Options].
const (
	DefaultMemoryLimit     = 256 << 20
	DefaultMinRevisionWait = 2 * time.Second
	DefaultIndexLimit      = 1 << 18
	DefaultTTL             = 24 * time.Hour
)

// Options configures an [Engine]; zero values are the defaults.
type Options struct {
	FeedURL string      // of the admin server, such as https://usher-admin:8080; required
	Token   string      // service token with the scope bundles
	TLS     *tls.Config // to the admin server; nil: Go's defaults
	// Verifier verifies what the admin server signs; nil: the connection is trusted.
	Verifier *signing.Verifier
	// Dial opens connections to the admin server; default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Self is what is told to the admin server; nil: nothing.
	Self *feed.Self
	// Replay is how many past revisions a fresh start wants to hear of, so that
	// entries in Redis from before it are good at once; default and most
	// feed.MaxReplay; negative: none.
	Replay int

	// Redis says where Redis is; see [ParseRedisURL]. Nil: none, which is slower.
	Redis *redis.UniversalOptions
	// RedisKeys authenticate what is in Redis; required with Redis. See
	// [ParseRedisKeys].
	RedisKeys [][]byte
	// TTL is how long an entry stays in Redis unless it is written anew; only to
	// collect garbage. Negative entries stay for a tenth of it at most.
	TTL time.Duration

	// MemoryLimit is about how many bytes facts in memory may take.
	MemoryLimit int64
	// IndexLimit is how many names that notices touched are remembered.
	IndexLimit int
	// MinRevisionWait is how long a check waits for its min_revision, and for the
	// feed to bring a revision that the admin or another sidecar has already;
	// negative: not at all.
	MinRevisionWait time.Duration

	// redisTimeout is [redisTimeout] but in tests, which run on busy machines.
	redisTimeout time.Duration

	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Validate reports every problem of o at once, without secrets.
func (o Options) Validate() error {
	var errs []error
	if o.FeedURL == "" {
		errs = append(errs, errors.New("the URL of the admin server is missing"))
	}
	if o.Redis != nil {
		errs = append(errs, validateRedisKeys(o.RedisKeys))
	}
	if o.MemoryLimit < 0 || o.IndexLimit < 0 || o.TTL < 0 {
		errs = append(errs, errors.New("a limit is negative"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.MemoryLimit == 0 {
		o.MemoryLimit = DefaultMemoryLimit
	}
	if o.IndexLimit == 0 {
		o.IndexLimit = DefaultIndexLimit
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = DefaultMinRevisionWait
	}
	if o.redisTimeout == 0 {
		o.redisTimeout = redisTimeout
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// ParseRedisURL reads where Redis is:
//
//	redis://[USER:PASSWORD@]HOST:PORT[/DB]         one server; rediss:// with TLS
//	redis://…@HOST:PORT?addr=HOST:PORT&addr=…      Cluster, by some of its nodes
//	redis://…@HOST:PORT?cluster=true               Cluster, by one address
//	redis://…@HOST:PORT?addr=…&master_name=NAME    Sentinels, by some of them, also
//	                                               sentinel_username, sentinel_password
//	unix:///PATH[?db=DB], user and password as above
//
// The error never shows the URL, which carries the password.
func ParseRedisURL(raw string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL of Redis does not parse")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of Redis's URL does not parse")
	}
	o := &redis.UniversalOptions{Username: u.User.Username()}
	o.Password, _ = u.User.Password()
	db := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "rediss":
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	case "redis":
	case "unix":
		o.Addrs, db = []string{u.Path}, query.Get("db")
		query.Del("db")
	default:
		return nil, errors.New("the URL of Redis begins with none of redis://, rediss:// and unix://")
	}
	if u.Scheme != "unix" {
		if u.Hostname() == "" {
			return nil, errors.New("the URL of Redis has no host")
		}
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		o.Addrs = append([]string{net.JoinHostPort(u.Hostname(), port)}, query["addr"]...)
	}
	if err := parseRedisQuery(o, query); err != nil {
		return nil, err
	}
	if db != "" {
		if _, err := fmt.Sscanf(db, "%d", &o.DB); err != nil || fmt.Sprint(o.DB) != db {
			return nil, errors.New("the database in Redis's URL is not a number")
		}
	}
	return o, nil
}

func parseRedisQuery(o *redis.UniversalOptions, query url.Values) error {
	for name := range query {
		switch value := query.Get(name); name {
		case "addr":
		case "cluster":
			if value != "true" && value != "false" {
				return errors.New("cluster in Redis's URL is neither true nor false")
			}
			o.IsClusterMode = value == "true"
		case "master_name":
			o.MasterName = value
		case "sentinel_username":
			o.SentinelUsername = value
		case "sentinel_password":
			o.SentinelPassword = value
		default:
			return fmt.Errorf("the query of Redis's URL has the unknown name %q", name)
		}
	}
	return nil
}

// redisOptions are o.Redis with the times and sizes that a cache wants: one quick
// try, since the next request is one.
func redisOptions(given redis.UniversalOptions, timeout time.Duration) *redis.UniversalOptions {
	o := given
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout = redisDialTimeout
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout
	o.ContextTimeoutEnabled = true
	if o.Protocol == 0 {
		o.Protocol = 2 // nothing of the third is needed, and every server has the second
	}
	o.DisableIdentity = true
	return &o
}
