// Package signin is the sign-in of `usher dev`: an OpenID provider on loopback, made
// with a library, where whoever sits at the machine signs in as any account by
// choosing it.
//
//	console ──▶ /authorize ──▶ /login: choose an account ──▶ code ──▶ /oauth/token
//	script  ──▶ POST /dev/token, account=ben ──▶ a token, as text
//
// It asks nobody for a password, so it must not be reached from elsewhere: it listens
// on loopback only, answers only to its own host name (a page that a browser was lured
// to cannot rebind its name to it), and takes forms only from its own pages and from
// programs that are no browser. The key that signs is kept, so that tokens outlive a
// restart.
package signin
