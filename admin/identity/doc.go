// Package identity proves who signed in: it verifies the JWTs of the platform's
// OpenID provider (OpenID Connect Core and Discovery 1.0).
//
//	JWT ──▶ algorithm ──▶ signature ──▶ issuer, audience, times ──▶ claims
//	        fixed list    the provider's   as configured              account's id,
//	                      published keys                              verified email, name
//
// # The provider's keys
//
// They are fetched when the first token comes, and again when a token names a key
// that is not known (a rotation) or when they are old, so that a key which the
// provider withdrew stops too. Fetches are bounded in rate: nobody makes this server
// ask the provider more often by sending rubbish.
//
// # What happens on failure
//
// A provider that does not answer keeps nothing from starting. While no keys are
// known, or the one that a token names is not among them and cannot be asked for, the
// answer is an [UnavailableError], not a refusal: the token may be good. With keys
// that are known, tokens are verified on, however long the provider is away.
// Everything else that is wrong with a token is [ErrRefused], always the same; the
// log says why.
package identity
