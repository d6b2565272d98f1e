package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/usher-authz/usher/migrations"
	"github.com/usher-authz/usher/policies"
)

const (
	sqlSchema   = `select version, needs from usher_schema`
	sqlEncoding = `select current_setting('server_encoding')`
	// Asked first: the role of `usher admin` may run a migration that has nothing to
	// do, but may not insert here.
	sqlPlatformThere = `select exists (select from platform)`
	sqlPlatform      = `insert into platform (platform, revision, hash, changed_at, system_identifier, timeline) values ($1, 0, $2, now(), $3, $4)
on conflict do nothing`
	migrationsTable = "usher_migrations"
)

// MigrateOptions are what is optional of [Migrate].
type MigrateOptions struct {
	// GrantTo is the role that `usher admin` connects as, if it is not the one that
	// migrates: it is granted what it needs and no more, so that it can only add to
	// the change log.
	GrantTo string
	// Actor is who migrates, for the log.
	Actor Actor
}

// MigrateReport says what [Migrate] did.
type MigrateReport struct {
	From, To int64 // versions of the schema
	// PolicyChanged says that the policy in force is a new one.
	PolicyChanged bool
	// Revision is the present one after all.
	Revision policies.Revision
}

// Migrate brings the schema of the database at url up to date, and then the policy
// in force, by a write. Several may run at once; they wait for one another. A
// catalogue that drops or takes what is in use is a [CatalogueError], guardrails in
// force that do not fit a [GuardrailsError], and then the schema is up to date and the
// policy is the old one. A schema that is newer than this binary is a [SchemaError].
// progress gets a line for each step.
func Migrate(ctx context.Context, url string, inForce policies.PolicyInForce, progress io.Writer, o MigrateOptions) (MigrateReport, error) {
	if err := inForce.Verify(); err != nil {
		return MigrateReport{}, err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return MigrateReport{}, fmt.Errorf("the database URL is not valid: %s", redactedParseError(err, url))
	}
	prepareConnections(config)
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	if err := migrateQueue(ctx, url, progress); err != nil {
		return MigrateReport{}, err
	}
	report, err := migrateSchema(ctx, db, progress)
	if err != nil {
		return report, err
	}
	if err := preparePlatform(ctx, config); err != nil {
		return report, err
	}
	if o.GrantTo != "" {
		if err := grantTo(ctx, config, o.GrantTo); err != nil {
			return report, err
		}
		_, _ = fmt.Fprintf(progress, "granted to the role %s what `usher admin` needs\n", o.GrantTo)
	}
	s, err := Open(ctx, Options{URL: url})
	if err != nil {
		return report, err
	}
	defer s.Close()
	actor := o.Actor
	actor.Local = true
	result, err := s.putEmbedded(ctx, Call{Actor: actor}, inForce)
	if err != nil {
		return report, err
	}
	report.PolicyChanged, report.Revision = result.Changed, result.Revision
	if result.Changed {
		_, _ = fmt.Fprintf(progress, "policy in force: %s, at revision %d\n", result.Value.Digest, result.Revision)
	} else {
		_, _ = fmt.Fprintf(progress, "policy in force: %s, as before\n", result.Value.Digest)
	}
	if n := len(result.Value.Guardrails()); n > 0 {
		_, _ = fmt.Fprintf(progress, "guardrails in force, kept: %d files\n", n)
	}
	return report, nil
}

// migrateSchema runs goose under an advisory lock of its own.
func migrateSchema(ctx context.Context, db *sql.DB, progress io.Writer) (MigrateReport, error) {
	var encoding string
	if err := db.QueryRowContext(ctx, sqlEncoding).Scan(&encoding); err != nil {
		return MigrateReport{}, translate(err)
	}
	if encoding != "UTF8" {
		return MigrateReport{}, fmt.Errorf("the database's encoding is %s, and usher needs UTF8: "+
			"create one by `createdb --encoding UTF8 --template template0`", encoding)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return MigrateReport{}, fmt.Errorf("prepare the lock of migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files,
		goose.WithTableName(migrationsTable), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return MigrateReport{}, fmt.Errorf("read the migrations: %w", err)
	}
	from, err := provider.GetDBVersion(ctx)
	if err != nil {
		return MigrateReport{}, fmt.Errorf("read the version of the schema: %w", translate(err))
	}
	report := MigrateReport{From: from, To: from}
	if from > migrations.Version {
		return report, newerSchema(ctx, db, from)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return report, fmt.Errorf("migrate the schema: %w", translate(err))
	}
	for _, r := range results {
		_, _ = fmt.Fprintf(progress, "migration %d: %s\n", r.Source.Version, r.Duration)
	}
	report.To = migrations.Version
	_, _ = fmt.Fprintf(progress, "schema: version %d\n", report.To)
	return report, nil
}

// newerSchema is the refusal to touch a schema from the future, unless its last
// migration lets this binary serve it: then there is nothing to do, and no error.
func newerSchema(ctx context.Context, db *sql.DB, version int64) error {
	var found schemaRow
	if err := db.QueryRowContext(ctx, sqlSchema).Scan(&found.Version, &found.Needs); err != nil {
		return translate(err)
	}
	return &SchemaError{Version: version, Serves: migrations.Version, Needs: found.Needs}
}

// preparePlatform gives the platform its identity, once.
func preparePlatform(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := conn.QueryRow(ctx, sqlPlatformThere).Scan(&there); err != nil || there {
		return translate(err)
	}
	id, err := connectionIdentity(ctx, conn)
	if err != nil {
		return translate(err)
	}
	_, err = conn.Exec(ctx, sqlPlatform, uuid.NewString(), make([]byte, len(policies.Hash{})), id.SystemIdentifier, id.Timeline)
	return translate(err)
}

type schemaRow struct{ Version, Needs int64 }

// checkSchema refuses a schema that this binary cannot serve.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, sqlSchema)
	if err != nil {
		return schemaError(err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[schemaRow])
	if err != nil {
		return schemaError(err)
	}
	if found.Version < migrations.Version || found.Needs > migrations.Version {
		return &SchemaError{Version: found.Version, Serves: migrations.Version, Needs: found.Needs}
	}
	return nil
}

func schemaError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeUndefinedTable {
		return &SchemaError{Serves: migrations.Version}
	}
	return translate(err)
}

// What the role of `usher admin` may do: everything with the state, but nothing
// with the log except to read it and to add to it.
var grantStatements = []string{
	`grant usage on schema public to %s`,
	`grant select on usher_schema, ` + migrationsTable + ` to %s`,
	`grant select, update on platform to %s`,
	`grant select, insert, update, delete on policies_in_force, system_policies, accounts, groups, environments, environment_groups,
     policies, roles, role_policies, collaborations, grants, tokens, idempotency_keys, invitation_links, invitations_sent, untold_changes to %s`,
	`revoke update, delete, truncate on revisions, changes from %s`,
	`grant select on river_migration to %s`,
	`grant select, insert, update, delete on river_job, river_leader, river_queue to %s`,
	`grant usage, select on sequence river_job_id_seq to %s`,
	`grant select, insert, update on token_uses to %s`,
	`grant select, insert, update, delete on sidecars to %s`,
	`grant select, insert on revisions, changes to %s`,
	`grant select, insert on decisions to %s`,
	`grant usage, select on sequence decisions_received_seq to %s`,
	`grant select, insert, delete on reads to %s`,
	`grant select, insert, update, delete on opa_statuses to %s`,
	`grant execute on function keep_decisions(date, date) to %s`,
}

// migrateQueue makes or changes the tables of the job queue, which are River's, under
// an advisory lock. It comes before the schema, whose version says that it was done.
func migrateQueue(ctx context.Context, url string, progress io.Writer) error {
	pool, err := NewPool(ctx, url, queueConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("read the migrations of the job queue: %w", err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, queueLockKey); err != nil {
		return translate(err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `select pg_advisory_unlock($1)`, queueLockKey) }()
	done, err := migrator.Validate(ctx, nil)
	if err != nil {
		return fmt.Errorf("read the version of the job queue: %w", translate(err))
	}
	if done.OK {
		return nil
	}
	result, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("migrate the job queue: %w", translate(err))
	}
	for _, v := range result.Versions {
		_, _ = fmt.Fprintf(progress, "job queue, migration %d: %s\n", v.Version, v.Duration)
	}
	return nil
}

const (
	// queueLockKey is lockKey for the migration of the queue.
	queueLockKey = lockKey + 1
	// queueConns are one that holds the lock, and one or two to migrate by.
	queueConns = 3
)

func grantTo(ctx context.Context, config *pgx.ConnConfig, role string) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	name := pgx.Identifier{role}.Sanitize()
	for _, statement := range grantStatements {
		if _, err := conn.Exec(ctx, strings.ReplaceAll(statement, "%s", name)); err != nil {
			return fmt.Errorf("grant to the role %q: %w", role, translate(err))
		}
	}
	return nil
}
