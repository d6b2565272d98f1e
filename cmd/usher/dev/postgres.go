package dev

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/admin/store/pgserver"
)

// The database's roles: the one that the schema belongs to, and the one that
// `usher admin` connects as.
const (
	ownerRole = "usher_owner"
	appRole   = "usher_admin"
)

// startPostgres starts PostgreSQL on the port of earlier runs, or on another one
// if somebody else has that now.
func startPostgres(ctx context.Context, dir string, st *state, log *slog.Logger) (*pgserver.Server, error) {
	try := func() (*pgserver.Server, error) {
		pg, err := pgserver.New(pgserver.Options{Dir: filepath.Join(dir, "postgres"), Port: st.PostgresPort, Logger: log})
		if err != nil {
			return nil, err
		}
		return pg, pg.Start(ctx)
	}
	chosen := st.PostgresPort
	if chosen == 0 {
		if err := choosePort(ctx, &st.PostgresPort, st); err != nil {
			return nil, err
		}
	}
	pg, err := try()
	if err != nil && ctx.Err() == nil && portTaken(ctx, st.PostgresPort) {
		if err := choosePort(ctx, &st.PostgresPort, st); err != nil {
			return nil, err
		}
		return try()
	}
	return pg, err
}

// databaseURL is how role connects.
func databaseURL(role, password string, port int) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/" + pgserver.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// createRoles makes the two roles, or sets their passwords to those that st
// has, and gives the database to its owner.
func createRoles(ctx context.Context, pg *pgserver.Server, st *state) error {
	conn, err := pgx.Connect(ctx, pg.URL(pgserver.Database))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL as its superuser: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, role := range []struct{ name, password string }{{ownerRole, st.OwnerPassword}, {appRole, st.AppPassword}} {
		var there bool
		if err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", role.name).Scan(&there); err != nil {
			return fmt.Errorf("look for the role %s: %w", role.name, err)
		}
		verb := "create"
		if there {
			verb = "alter"
		}
		// Neither has a character that SQL would read: constants and hex.
		if _, err := conn.Exec(ctx, verb+" role "+role.name+" login password '"+role.password+"'"); err != nil {
			return fmt.Errorf("%s the role %s: %w", verb, role.name, err)
		}
	}
	if _, err := conn.Exec(ctx, "alter database "+pgserver.Database+" owner to "+ownerRole); err != nil {
		return fmt.Errorf("give the database to %s: %w", ownerRole, err)
	}
	return nil
}
