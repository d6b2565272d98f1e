// Package dev is `usher dev`: the whole of usher on one machine, from nothing.
//
//	usher dev ─┬─ postgres       child process, data in DIR/postgres
//	           ├─ redis-server   child process, or a Redis in this one
//	           ├─ sign-in        in this process, an OpenID provider for accounts
//	           ├─ admin          in this process ──feed──┐
//	           ├─ sidecar        in this process, resident ◀┤
//	           └─ sidecar        in this process, on demand over Redis ◀┘
//
// # Start
//
// DIR is locked first, so that there is one `usher dev` for each. DIR/dev.env is
// removed, written anew by rename once everything answers, and removed again before
// anything stops: whoever finds it may use what it says, unless this process was
// killed. What an earlier run left behind when it was killed is taken
// over: its PostgreSQL and Redis are stopped and started again on the same
// data and ports.
//
// # Failure
//
// PostgreSQL and Redis are watched. One that dies is started again, on the
// same port, so that what connects to it finds it again by itself; one that
// cannot be started again ends everything. Every part that was started is
// stopped in reverse order when the context ends, when a later part cannot be started,
// and when a child cannot be revived; each within a bounded time.
//
// # Roles in the database
//
// The schema belongs to usher_owner, which migrates. The admin server, and
// USHER_DATABASE_URL in dev.env, connect as usher, which can insert and select in
// the change log, but not change or delete there.
package dev
