package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/usher-authz/usher/authz/ondemand"
	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/authz/sidecar"
)

type sidecarCommand struct {
	Listen     string `default:"127.0.0.1:8181" help:"Where to listen, HOST:PORT; port 0 picks a free one; - for a Unix socket alone."`
	Auth       string `default:"" enum:",token,none" help:"What callers need on TCP: token, the default but with a bundle, or none, on loopback only."`
	Socket     string `help:"A Unix socket to listen on too; it asks for no token." placeholder:"PATH"`
	SocketMode string `default:"0600" help:"Who may use the Unix socket, as the permissions of its file."`

	listening `embed:""`

	Routes      string `help:"What reverse proxies ask about, in YAML: routes to actions; it opens /forward-auth, and is read anew when it changes." placeholder:"FILE"`
	EnvoyListen string `help:"Where Envoy's external authorization (gRPC) is served too, HOST:PORT, under the same --auth and certificate; it needs --routes." placeholder:"HOST:PORT"`
	EnvoySocket string `help:"A Unix socket for the same, with --socket-mode." placeholder:"PATH"`

	AdminURL string `help:"The admin server that feeds it, e.g. http://127.0.0.1:8080." placeholder:"URL"`
	Token    string `help:"A service token with the scope bundles." placeholder:"TOKEN"`
	Name     string `help:"What the admin server calls it in receipts; the host's name and the process's id, if empty." placeholder:"NAME"`

	verificationKeys `embed:""`

	Dir        string        `help:"Where the mode resident keeps its snapshot, to answer after a restart without the admin server; nowhere, if empty." placeholder:"DIR"`
	MaxOffline time.Duration `default:"24h" help:"How long ago that snapshot may have been confirmed fresh, to be answered from."`

	Mode         string `default:"resident" enum:"resident,on-demand" help:"resident holds every account in memory; on-demand takes what it needs from Redis and the admin."`
	RedisURL     string `help:"Redis for the mode on-demand, e.g. redis://:PASSWORD@127.0.0.1:6379/0; without it the mode is slower." placeholder:"URL"`
	RedisKeyFile string `help:"The file with the keys that authenticate what is kept in Redis." placeholder:"FILE"`
	MemoryLimit  int64  `default:"268435456" help:"About how many bytes the mode on-demand may keep in memory."`
	Bundle       string `help:"Answer from an OPA bundle alone, without an admin server; --admin-url, --mode and Redis are not looked at then." placeholder:"FILE|URL"`

	CacheLimit      int           `default:"1000000" help:"How many (subject, resource) pairs are cached."`
	MinRevisionWait time.Duration `default:"2s" help:"How long a check waits for the revision that it demands."`
	MaxStaleness    time.Duration `default:"0s" help:"The age of the data beyond which checks are answered with 503; 0: never."`

	decisionLogging `embed:""`

	logging `embed:""`
}

// listening is the options of every TCP listener.
type listening struct {
	PublicURL      string `help:"Where callers find this server; its own address, if empty." placeholder:"URL"`
	TLSCert        string `help:"The TLS certificate, in PEM; read anew when it changes." placeholder:"FILE"`
	TLSKey         string `help:"Its key, in PEM." placeholder:"FILE"`
	InsecureListen bool   `help:"Listen without TLS on an address that others can reach."`
}

// Run serves until ctx ends.
func (c *sidecarCommand) Run(ctx context.Context, p *Process) error {
	log, err := c.logger(p.Stderr)
	if err != nil {
		return err
	}
	options, err := c.options(log)
	if err != nil {
		return err
	}
	if options.DecisionLog, err = c.decisionLog(ctx, p.Stdout, c.AdminURL, c.Token); err != nil {
		return err
	}
	if c.InsecureListen && c.TLSCert == "" {
		log.WarnContext(ctx, "listening without TLS, as asked: tokens and answers can be read on the way", "address", c.Listen)
	}
	server, err := sidecar.New(options)
	if err != nil {
		return err
	}
	return serve(ctx, server, "sidecar", c.Listen, log)
}

// options reports every option that is missing or wrong at once. With a bundle
// those of the admin server and of Redis are left out: dev.env may be loaded.
func (c *sidecarCommand) options(log *slog.Logger) (sidecar.Options, error) {
	o := sidecar.Options{
		Listen: c.Listen, Auth: server.Auth(c.Auth), PublicURL: c.PublicURL, Socket: c.Socket,
		RoutesFile: c.Routes, EnvoyListen: c.EnvoyListen, EnvoySocket: c.EnvoySocket,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, InsecureListen: c.InsecureListen, Token: c.Token, Name: c.Name, Version: version(),
		CacheLimit: c.CacheLimit, MinRevisionWait: c.MinRevisionWait, MaxStaleness: c.MaxStaleness, Logger: log,
	}
	if o.MinRevisionWait == 0 {
		o.MinRevisionWait = -1 // not at all, where 0 is the default
	}
	if o.Listen == "-" {
		o.Listen = ""
	}
	var errs []error
	mode, err := strconv.ParseUint(c.SocketMode, 8, 32)
	if err != nil {
		errs = append(errs, fmt.Errorf("--socket-mode must be permissions like 0600, not %q", c.SocketMode))
	}
	o.SocketMode = fs.FileMode(mode)
	if o.Verifier, err = c.verifier(); err != nil {
		errs = append(errs, err)
	}
	if c.Bundle != "" {
		o.Bundle = c.Bundle
		return o, errors.Join(errs...)
	}
	o.AdminURL, o.Mode = c.AdminURL, sidecar.Mode(c.Mode)
	if c.AdminURL == "" {
		errs = append(errs, missing("admin-url", "or --bundle, to answer from an OPA bundle alone"))
	}
	if c.Token == "" {
		errs = append(errs, missing("token", "`usher token create --scope bundles` makes one"))
	}
	if o.Mode == sidecar.ModeResident {
		o.Dir, o.MaxOffline = c.Dir, c.MaxOffline
		if o.MaxOffline == 0 {
			o.MaxOffline = 1 // not at all, where 0 is the default
		}
	}
	if o.Mode == sidecar.ModeOnDemand {
		o.MemoryLimit = c.MemoryLimit
		errs = append(errs, c.redis(&o))
	}
	return o, errors.Join(errs...)
}

// redis fills in where Redis is, and with which keys.
func (c *sidecarCommand) redis(o *sidecar.Options) error {
	if c.RedisURL == "" {
		return nil
	}
	var err error
	o.Redis, o.RedisKeys, err = readRedis(c.RedisURL, c.RedisKeyFile)
	return err
}

func readRedis(url, keyFile string) (*redis.UniversalOptions, [][]byte, error) {
	at, err := ondemand.ParseRedisURL(url)
	if err != nil {
		return nil, nil, fmt.Errorf("--redis-url: %w", err)
	}
	if keyFile == "" {
		return nil, nil, missing("redis-key-file", "it authenticates what stands in Redis")
	}
	data, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read --redis-key-file: %w", err)
	}
	keys, err := ondemand.ParseRedisKeys(data)
	if err != nil {
		return nil, nil, fmt.Errorf("--redis-key-file %s: %w", keyFile, err)
	}
	return at, keys, nil
}
