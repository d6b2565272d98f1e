package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-authz/usher/authz"
)

const (
	// DefaultInvitationTTL is how long an invitation may be accepted.
	DefaultInvitationTTL = 7 * 24 * time.Hour

	// defaultMaxConns is the size of the pool unless the URL has pool_max_conns. Half
	// of them may be writers that wait for the lock, so that readers find a place.
	defaultMaxConns = 24
	connectTimeout  = 5 * time.Second
	// cancelDelay is how long a cancelled statement may take to end before its
	// connection is given up.
	cancelDelay = 2 * time.Second
)

// Options are what a [Store] needs. Only URL is required.
type Options struct {
	// URL is PostgreSQL's, as pgx takes it, pool_max_conns and the like included.
	URL string
	// Logger; discards if nil.
	Logger *slog.Logger
	// Clock tells the time of changes; time.Now if nil.
	Clock func() time.Time
	// Registerer takes the store's metrics; none if nil.
	Registerer prometheus.Registerer
	// Rand makes ids and token secrets; crypto/rand if nil.
	Rand io.Reader
	// InvitationTTL is [DefaultInvitationTTL] if 0.
	InvitationTTL time.Duration
	// InvitationsPerOwner and InvitationsPerAddress are how many invitations an owner
	// may send, and an address be sent, in an hour; 0: any number.
	InvitationsPerOwner, InvitationsPerAddress int
	// Outbox takes what the other side of a collaboration is to be told; nobody is if nil.
	Outbox Outbox
	// ReadOnly opens a database only to look at it, a copy or a standby too: it does
	// not even begin a new epoch. Nothing may be written.
	ReadOnly bool
	// State is the platform's state in this process, which may be a little behind;
	// nil while there is none. Without it, writes by members and dry runs are an
	// [UnavailableError].
	State func() *authz.State
}

// Store is usher's database. Its methods may be called from many goroutines; it
// is closed once.
type Store struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	clock   func() time.Time
	rand    io.Reader
	ttl     time.Duration
	state   func() *authz.State
	metrics *metrics
	outbox  Outbox
	// perOwner and perAddress are the limits on invitations; 0: none.
	perOwner, perAddress int
	// writers are the connections that writes may hold.
	writers chan struct{}
	// lookupTimeout is defaultLookupTimeout but in tests.
	lookupTimeout time.Duration
	// committed is what is called after each commit; nil: nothing. See [Store.Listen].
	committed atomic.Pointer[func(Word)]
}

// Open connects to a migrated database, and begins a new epoch if it was restored
// or failed over. A schema that this binary cannot serve is a [SchemaError], a
// database that does not answer an [UnavailableError].
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := poolConfig(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log: o.Logger, clock: o.Clock, rand: o.Rand, ttl: o.InvitationTTL, state: o.State, outbox: o.Outbox,
		perOwner: o.InvitationsPerOwner, perAddress: o.InvitationsPerAddress, lookupTimeout: defaultLookupTimeout,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.ttl == 0 {
		s.ttl = DefaultInvitationTTL
	}
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	s.writers = make(chan struct{}, max(1, config.MaxConns/2))
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := s.prepare(ctx, o.ReadOnly); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// prepare checks what the database is before anything is done with it.
func (s *Store) prepare(ctx context.Context, readOnly bool) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	if err := checkSchema(ctx, conn.Conn()); err != nil {
		return err
	}
	if readOnly {
		return nil
	}
	return s.ensureEpoch(ctx)
}

// NewPool makes a pool for what is no part of the store, but lives in its database. It
// connects to nothing yet.
func NewPool(ctx context.Context, url string, size int32) (*pgxpool.Pool, error) {
	config, err := poolConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = size
	pool, err := pgxpool.NewWithConfig(ctx, config)
	return pool, translate(err)
}

func poolConfig(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The driver's error quotes the URL, which may hold a password.
		return nil, fmt.Errorf("the database URL is not valid: %s", redactedParseError(err, url))
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = defaultMaxConns
	}
	prepareConnections(config.ConnConfig)
	return config, nil
}

// prepareConnections sets what all our connections have in common.
func prepareConnections(config *pgx.ConnConfig) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "usher"
	}
	// A caller that goes away while its write waits for the lock leaves the queue.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelDelay}
	}
}

// redactedParseError is the driver's reason without the URL that it quotes.
func redactedParseError(err error, url string) string {
	text := err.Error()
	if i := strings.Index(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	return strings.ReplaceAll(text, url, "…")
}

// Close lets go of all connections, and waits for those in use. [Store.Listen] must
// have been ended before.
func (s *Store) Close() { s.pool.Close() }

// Ping tells whether the database answers now; otherwise an [UnavailableError].
func (s *Store) Ping(ctx context.Context) error { return translate(s.pool.Ping(ctx)) }
