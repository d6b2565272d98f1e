// Package redisserver runs a Redis on loopback for `usher dev` and for tests:
// the machine's redis-server as a child process, or, where there is none, one in
// this process (miniredis). Both stand behind [Server].
//
// The server listens on 127.0.0.1 only, asks for a password, keeps nothing on
// disk and throws away what is least used beyond its memory limit: it is a
// cache. Its whole configuration, the password with it, goes in by standard
// input, so that no process listing and no file shows it.
//
// Nothing here is needed by a sidecar in production; it is given a URL.
package redisserver
