// Package store is usher's truth in PostgreSQL.
package store
