// Package migrations holds the SQL that makes and changes usher's schema, in the
// form of goose: numbered, embedded, forward only, never edited once released.
//
// Each migration ends by writing its own number into usher_schema, and beside it
// the oldest number that a binary must have been built for to serve the schema:
// the same as before when old binaries get along with the change (a new table, a
// column with a default), its own when they do not. So a rolling upgrade works, and
// a binary that cannot serve a schema knows it.
package migrations

import "embed"

// Version is the newest migration, and the schema that this binary is built for.
// A test holds it against the files.
const Version = 16

// Files are the migrations, at the root.
//
//go:embed *.sql
var Files embed.FS
