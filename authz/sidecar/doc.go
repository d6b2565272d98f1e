// Package sidecar is the check server as a value: New, Start, Addr, Stop. A process
// runs one; tests and `usher dev` run many, each on a port of its own.
//
//	             ┌─ source: where answers come from ─────────────┐
//	feed ───────▶│ resident   authz.Engine, fed with every change │
//	feed, Redis ▶│ on-demand  ondemand.Engine, by notices         │──▶ server.API ──▶ TCP, TLS
//	file, URL ──▶│ bundle     authz.Engine, a state a bundle      │             └──▶ Unix socket
//	             └───────────────────────────────────────────────┘
//
// # Life
//
// Start listens before it returns, so that a taken port is its error, and serves at
// once: checks are answered with 503 until there is a state, and /ready is 200 once
// the source has caught up. Stop is the way back: /ready turns 503, no connection is
// accepted any more, what is in flight is finished within the context that Stop was
// given, and then the source ends.
//
// # Who may ask
//
// A TCP listener asks for a service token, which the source knows by the feed. It
// may do without on loopback, and so may a Unix socket, whose file's mode decides.
// A bundle has no tokens: it is served on loopback and on Unix sockets only. TCP
// without TLS is refused beyond loopback, unless InsecureListen says otherwise.
package sidecar
