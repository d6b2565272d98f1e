// Package signing is the platform's key pairs and what they sign: the feed, bundles,
// and heads of the change log. ES256 (ECDSA on P-256 with SHA-256, RFC 7518, 3.4),
// since that is what a stock OPA verifies.
//
// # Rotation with overlap
//
// A signer holds a private key or several, a verifier public keys. The feed is signed
// with every key of the signer, and a verifier is content with one that it has. So a
// key is replaced without an interruption and in any order, here A by B:
//
//  1. the signer has A         the verifier has A
//  2. the signer has A and B
//  3. the verifier has B
//  4. the signer has B
//
// What can carry one signature only (a bundle, a head) carries the first key's.
//
// # What a signature is for
//
// What is signed is a [Purpose] and a text, never a text alone, so that a signature
// for one thing cannot stand for another.
package signing
