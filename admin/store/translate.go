package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/usher-authz/usher/policies"
)

// SQLSTATEs that mean something here (PostgreSQL, Appendix A).
const (
	codeSerializationFailure = "40001"
	codeDeadlockDetected     = "40P01"
	codeUniqueViolation      = "23505"
	codeForeignKeyViolation  = "23503"
	codeQueryCanceled        = "57014"
	codeIdleInTransaction    = "25P03"
	codeReadOnly             = "25006"
	codeLockNotAvailable     = "55P03"
	codeUndefinedTable       = "42P01"
)

// translate turns the driver's errors into the kinds of the domain and of this
// package, by SQLSTATE and constraint name. The writers look before they write, so
// a constraint speaks only where a look was forgotten; it still speaks the same
// language. Errors that are none of the driver's pass.
func translate(err error) error {
	var pg *pgconn.PgError
	var translated *UnavailableError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &translated):
		return err // what it wraps would have it say that nothing was changed
	case errors.As(err, &pg):
		return translateServer(err, pg)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case connectionLost(err):
		return &UnavailableError{Err: err}
	default:
		return err
	}
}

func translateServer(err error, pg *pgconn.PgError) error {
	if pg.Code == codeUniqueViolation || pg.Code == codeForeignKeyViolation {
		switch pg.ConstraintName {
		case "accounts_email_key":
			return &policies.TakenError{Field: "email", Reason: "belongs to another account"}
		case "groups_id_key", "environments_id_key":
			return &policies.TakenError{Field: "id", Reason: "belongs to another account"}
		case "accounts_pkey", "groups_pkey", "environments_pkey", "policies_pkey", "roles_pkey", "tokens_pkey", "collaborations_pkey", "collaborations_id_key":
			return &policies.TakenError{Field: "id", Reason: "is taken"}
		case "groups_name_key", "roles_name_key":
			return &policies.TakenError{Field: "name", Reason: "is taken"}
		case "collaborations_account_key", "collaborations_email_key":
			return &policies.TakenError{Field: "email", Reason: "is a member's already"}
		case "groups_owner_fkey", "environments_owner_fkey", "policies_owner_fkey", "roles_owner_fkey", "collaborations_owner_fkey":
			return &policies.NotFoundError{Kind: "account"}
		}
		return fmt.Errorf("constraint %s: %w", pg.ConstraintName, err)
	}
	if unavailable(pg) {
		return &UnavailableError{Err: err}
	}
	return err
}

// unavailable tells whether the server, and not the statement, is at fault: it
// goes down or comes up (57P…), lost us (08…), lacks memory, disk or connections
// (53…), gave up on us or on a lock that another holds, or is a standby.
func unavailable(pg *pgconn.PgError) bool {
	return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") ||
		pg.Code == codeIdleInTransaction || pg.Code == codeReadOnly || pg.Code == codeLockNotAvailable
}

// connectionLost tells whether err says that there is no connection, or none any more.
func connectionLost(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, errConnectionClosed)
}

// errConnectionClosed marks errors after which the driver had closed the
// connection: it has no error of its own for that.
var errConnectionClosed = errors.New("the connection was lost")

// retryable tells whether the transaction lost against another and may be run again.
func retryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == codeSerializationFailure || pg.Code == codeDeadlockDetected)
}
