package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/usher-authz/usher/admin"
	"github.com/usher-authz/usher/admin/identity"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/pgserver"
	"github.com/usher-authz/usher/authz/ondemand"
	"github.com/usher-authz/usher/authz/ondemand/redisserver"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/cmd/usher/dev/signin"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/rego"
)

const (
	readyTimeout  = 30 * time.Second
	readyInterval = 20 * time.Millisecond
)

// Run starts everything, waits until ctx ends or a child cannot be kept alive, and
// stops everything. The error is nil if ctx ended it. Errors are one line, and
// say what to do: a [RunningError], a port taken, PostgreSQL missing, a directory that
// cannot be written to.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	guarded, err := readGuardrails(ctx, o.Guardrails)
	if err != nil {
		return err
	}
	if err := openDir(o.Dir); err != nil {
		return err
	}
	held, err := takeLock(o.Dir)
	if err != nil {
		return err
	}
	d := &platform{o: o, guardrails: guarded, began: time.Now()}
	d.started.push("lock", func(context.Context) error { return held.release() })
	defer func() {
		if err == nil {
			d.tell("stopping")
		}
		err = errors.Join(err, d.started.unwind(context.WithoutCancel(ctx)))
		if err == nil {
			d.tell("stopped")
		}
	}()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return err
	}
	return d.supervise(ctx)
}

// platform is all that runs on one directory.
type platform struct {
	o Options
	// guardrails to put in force, file name → source; nil: none were asked for.
	guardrails map[string]string

	began   time.Time
	state   *state
	started stack
	log     *slog.Logger
	telling sync.Mutex

	postgres *pgserver.Server
	redisMu  sync.Mutex
	redis    *redisserver.Server

	keyFile   string
	redisKeys [][]byte
	signing   signingFiles

	signIn *signin.Server

	admin, sidecar, onDemand server
}

// server is what admin.Server and sidecar.Sidecar have in common.
type server interface {
	URL() string
	Done() <-chan struct{}
	Err() error
}

func (d *platform) tell(line string) {
	d.telling.Lock()
	defer d.telling.Unlock()
	_, _ = fmt.Fprintln(d.o.Out, "usher dev:", line) // nobody reads: no reason to stop
}

// start brings everything up, in order of need.
func (d *platform) start(ctx context.Context) error {
	if err := os.Remove(d.envPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return notWritable(d.o.Dir, err)
	}
	if err := errors.Join(checkFree(ctx, "admin-listen", d.o.AdminListen), checkFree(ctx, "sidecar-listen", d.o.SidecarListen)); err != nil {
		return err
	}
	var err error
	if d.state, err = loadState(d.o.Dir); err != nil {
		return err
	}
	if d.keyFile, d.redisKeys, err = keyFile(d.o.Dir); err != nil {
		return err
	}
	if d.signing, err = signingKey(d.o.Dir); err != nil {
		return err
	}
	if d.log, err = d.logger("dev"); err != nil {
		return err
	}
	if err := d.startServers(ctx); err != nil {
		return err
	}
	if err := d.startSignIn(ctx); err != nil {
		return err
	}
	if err := d.startAdmin(ctx); err != nil {
		return err
	}
	if err := d.ensureToken(ctx); err != nil {
		return err
	}
	if err := d.putGuardrails(ctx); err != nil {
		return err
	}
	if err := d.startSidecars(ctx); err != nil {
		return err
	}
	if d.o.Demo && !d.state.DemoImported {
		if err := importDemo(ctx, d.admin.URL(), d.state.Token, d.o.Clock()); err != nil {
			return err
		}
		d.state.DemoImported = true
		if err := d.state.save(); err != nil {
			return err
		}
		d.tell("the demo company " + DemoAccount + " is imported")
	}
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	if err := writeFile(d.envPath(), envFile(d.variables())); err != nil {
		return err
	}
	d.started.push("dev.env", func(context.Context) error { return os.Remove(d.envPath()) })
	d.tell(fmt.Sprintf("ready after %.1f s", time.Since(d.began).Seconds()))
	_, _ = fmt.Fprint(d.o.Out, d.welcome())
	return nil
}

// logger opens DIR/NAME.log for the time of the run.
func (d *platform) logger(name string) (*slog.Logger, error) {
	log, file, err := openLog(d.o.Dir, name)
	if err != nil {
		return nil, err
	}
	d.started.push(name+".log", func(context.Context) error { return file.Close() })
	return log, nil
}

// startServers starts PostgreSQL with a migrated database, and Redis, side by
// side.
func (d *platform) startServers(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		pg, err := startPostgres(groupCtx, d.o.Dir, d.state, d.log)
		if err != nil {
			return err
		}
		d.postgres = pg
		d.tell(fmt.Sprintf("PostgreSQL on 127.0.0.1:%d", d.state.PostgresPort))
		return nil
	})
	redis, redisErr := startRedis(groupCtx, d.o.Dir, d.state, d.log)
	err := group.Wait()
	if d.postgres != nil {
		d.started.push("PostgreSQL", d.postgres.Stop)
	}
	if redis != nil {
		d.redis = redis
		d.started.push("Redis", d.stopRedis)
		d.tell("Redis on " + redis.Addr())
	}
	if err == nil { // if PostgreSQL failed, Redis was called off
		err = redisErr
	}
	if err != nil {
		return err
	}
	if err := createRoles(ctx, d.postgres, d.state); err != nil {
		return err
	}
	return d.migrate(ctx)
}

func (d *platform) stopRedis(ctx context.Context) error {
	d.redisMu.Lock()
	defer d.redisMu.Unlock()
	return d.redis.Stop(ctx)
}

// migrate brings schema and policy in force up to date, as the owner.
func (d *platform) migrate(ctx context.Context) error {
	inForce, err := EmbeddedPolicy()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(d.o.Dir, "migrate.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	url := databaseURL(ownerRole, d.state.OwnerPassword, d.state.PostgresPort)
	_, err = store.Migrate(ctx, url, inForce, file, store.MigrateOptions{GrantTo: appRole})
	if err != nil {
		err = fmt.Errorf("migrate the database: %w", err)
	}
	return errors.Join(err, file.Close())
}

// EmbeddedPolicy is the catalogue and the Rego of this binary.
func EmbeddedPolicy() (policies.PolicyInForce, error) {
	catalogue, err := policies.EmbeddedCatalogue()
	if err != nil {
		return policies.PolicyInForce{}, fmt.Errorf("read the embedded catalogue: %w", err)
	}
	return policies.NewPolicyInForce(catalogue, rego.Modules())
}

func (d *platform) databaseURL() string {
	return databaseURL(appRole, d.state.AppPassword, d.state.PostgresPort)
}

func (d *platform) startAdmin(ctx context.Context) error {
	log, err := d.logger("admin")
	if err != nil {
		return err
	}
	hook, err := startRegistration(ctx)
	if err != nil {
		return err
	}
	d.started.push("the registration hook", hook.stop)
	a, err := admin.New(admin.Options{
		Identity:    identity.Options{Issuer: d.signIn.URL(), Audience: signin.Audience},
		DatabaseURL: d.databaseURL(), Listen: d.o.AdminListen, RegistrationURL: hook.url,
		SMTPURL: d.o.SMTPURL, MailDir: filepath.Join(d.o.Dir, "mail"), MailFrom: mailFrom, Version: d.o.Version,
		Signer: d.signing.signer, Logger: log, Clock: d.o.Clock,
	})
	if err != nil {
		return fmt.Errorf("make the admin server: %w", err)
	}
	if err := a.Start(ctx); err != nil {
		return startError("admin-listen", d.o.AdminListen, err)
	}
	d.admin = a
	d.started.push("the admin server", a.Stop)
	d.tell("admin on " + a.URL())
	return nil
}

// ensureToken makes the service token with every scope, or keeps the one of
// earlier runs if the database knows it and it has them all.
func (d *platform) ensureToken(ctx context.Context) error {
	s, err := store.Open(ctx, store.Options{URL: d.databaseURL(), Logger: d.log})
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer s.Close()
	if d.state.Token != "" {
		known, err := knownToken(ctx, s, d.state.TokenID)
		if err != nil || known {
			return err
		}
	}
	call := store.Call{Actor: store.Actor{Local: true}}
	result, secret, err := s.CreateToken(ctx, call, tokenName, policies.Scopes, nil)
	if err != nil {
		return fmt.Errorf("make the service token: %w", err)
	}
	d.state.TokenID, d.state.Token = result.Value.ID, secret
	return d.state.save()
}

func (d *platform) startSidecars(ctx context.Context) error {
	onDemandListen, err := d.onDemandListen(ctx)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		name, flag, listen string
		mode               sidecar.Mode
		field              *server
	}{
		{"sidecar", "sidecar-listen", d.o.SidecarListen, sidecar.ModeResident, &d.sidecar},
		{"sidecar-on-demand", "sidecar-listen", onDemandListen, sidecar.ModeOnDemand, &d.onDemand},
	} {
		log, err := d.logger(s.name)
		if err != nil {
			return err
		}
		options := sidecar.Options{
			Listen: s.listen, Name: s.name, Version: d.o.Version, AdminURL: d.admin.URL(), Token: d.state.Token, Verifier: d.signing.signer.Verifier(), Mode: s.mode,
			Logger: log, Clock: d.o.Clock,
		}
		if s.mode == sidecar.ModeResident {
			options.Dir = filepath.Join(d.o.Dir, "snapshot")
		}
		if s.mode == sidecar.ModeOnDemand {
			if options.Redis, err = ondemand.ParseRedisURL(redisURL(d.state)); err != nil {
				return fmt.Errorf("read the address of Redis: %w", err)
			}
			options.RedisKeys = d.redisKeys
		}
		value, err := sidecar.New(options)
		if err != nil {
			return fmt.Errorf("make the %s: %w", s.name, err)
		}
		if err := value.Start(ctx); err != nil {
			return startError(s.flag, s.listen, err)
		}
		*s.field = value
		d.started.push("the "+s.name, value.Stop)
		d.tell(s.name + " on " + value.URL())
	}
	return nil
}

// onDemandListen is the port after the resident sidecar's; if somebody has that, one
// that is free, and the same the next time.
func (d *platform) onDemandListen(ctx context.Context) (string, error) {
	host, _, err := net.SplitHostPort(d.o.SidecarListen)
	if err != nil {
		return "", err
	}
	if port := portOf(d.o.SidecarListen); port == 0 {
		return net.JoinHostPort(host, "0"), nil
	} else if next := net.JoinHostPort(host, strconv.Itoa(port+1)); next != d.o.AdminListen && checkFree(ctx, "", next) == nil {
		return next, nil
	}
	if d.state.OnDemandPort == 0 || portTaken(ctx, d.state.OnDemandPort) {
		if err := choosePort(ctx, &d.state.OnDemandPort, d.state); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(d.state.OnDemandPort)), nil
}

// startError names the option when the address is the trouble.
func startError(flag, listen string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return listenError(flag, listen, op)
	}
	return err
}

// awaitReady polls /ready of every server.
func (d *platform) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range []server{d.admin, d.sidecar, d.onDemand} {
		group.Go(func() error {
			ticker := time.NewTicker(readyInterval)
			defer ticker.Stop()
			for {
				_, err := (&rest{base: s.URL()}).call(ctx, http.MethodGet, "/ready", "")
				if err == nil {
					return nil
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("%s is not ready after %s (see the logs in %s): %w", s.URL(), readyTimeout, d.o.Dir, err)
				case <-ticker.C:
				}
			}
		})
	}
	return group.Wait()
}

// supervise keeps the children alive until ctx ends or one cannot be revived.
func (d *platform) supervise(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	children := []child{
		{name: "PostgreSQL", done: d.postgres.Done, start: d.postgres.Start},
		{name: "Redis", done: d.redisDone, start: d.restartRedis},
	}
	for _, c := range children {
		group.Go(func() error { return c.watch(ctx, d.log, d.tell) })
	}
	for _, s := range []server{d.signIn, d.admin, d.sidecar, d.onDemand} {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-s.Done():
				return fmt.Errorf("the server on %s ended: %w", s.URL(), s.Err())
			}
		})
	}
	return group.Wait()
}

func (d *platform) redisDone() <-chan struct{} {
	d.redisMu.Lock()
	defer d.redisMu.Unlock()
	return d.redis.Done()
}

func (d *platform) restartRedis(ctx context.Context) error {
	next, err := redisserver.Start(ctx, redisserver.Options{
		Port: d.state.RedisPort, Password: d.state.RedisPassword, Dir: d.o.Dir, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.redisMu.Lock()
	defer d.redisMu.Unlock()
	d.redis = next
	return nil
}
