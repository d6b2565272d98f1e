// Package bundles serves the platform as an OPA bundle, as OPA's management API
// has it: GET /v1/bundles/usher.tar.gz, with ETags and long polling.
//
// There are two kinds of request, and they are promised different things:
//
//   - Without If-None-Match, the bundle is at a revision that is not older than
//     the request. It waits until the server's own state has caught up with the
//     platform, and builds unless a bundle of that revision is there.
//   - A poll, with If-None-Match, gets what is newer than all that it names, or
//     304. Polls share a bundle: for them one is built at most every MinInterval,
//     however many consumers there are and however fast changes come, so that an
//     answer may be that much late. With Prefer: wait=N a poll waits up to N seconds
//     for something new.
//
// At most one bundle is built at a time, and those who wait for it share it. The
// newest is kept compressed; a change that nobody polls for costs nothing.
//
// A stock OPA says in Prefer that it takes deltas too (modes=snapshot,delta);
// every answer is a snapshot. It polls long only while the content type says that
// the server does; see OPA's v1/download/download.go.
package bundles
