package store

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultInvitationTTL is how long an invitation may be accepted.
const DefaultInvitationTTL = 7 * 24 * time.Hour

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
}

// Store is usher's database. Its methods may be called from many goroutines; it
// is closed once.
type Store struct {
	pool  *pgxpool.Pool
	log   *slog.Logger
	clock func() time.Time
	rand  io.Reader
	ttl   time.Duration
}

// Open connects to a migrated database. A schema that this binary cannot serve
// is a [SchemaError], a database that does not answer an [UnavailableError].
func Open(ctx context.Context, o Options) (*Store, error) { return nil, notYet }

// Close lets go of all connections. Listen must have ended before.
func (s *Store) Close() {}
