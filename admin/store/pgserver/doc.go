// Package pgserver runs a PostgreSQL of one's own: for `usher dev`, and for the
// tests. It listens on loopback only, with a generated password, and keeps all it
// has below one directory:
//
//	DIR/lock          held while a process of ours runs a server here
//	DIR/data          PostgreSQL's data directory
//	DIR/password      the superuser's password
//	DIR/postgres.log  what the server says
//
// PostgreSQL refuses to run as root. A root process therefore starts it as the
// user postgres or, without one, nobody; where that user may not enter a directory
// above DIR, the child is given the one capability that lets it (Linux).
//
// The server does not outlive its starter (Linux), and if it does, the next start
// on DIR stops what it finds there before it begins.
package pgserver
