package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/usher-authz/usher/policies"
)

// skew is how far the provider's clock and ours may be apart.
const skew = time.Minute

// algorithms are those taken, whatever the provider or the token says: signatures
// by a private key. "none" needs no key, and the HS family would take a public key,
// which everybody has, for the secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// ErrRefused says that a token proves nothing. It does not say why.
var ErrRefused = errors.New("the token is not one that the OpenID provider gave for this server")

// UnavailableError says that the token cannot be verified now.
type UnavailableError struct{ Cause error }

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the OpenID provider does not answer: %v", e.Cause)
}
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Identity is what a token proves.
type Identity struct {
	// Account is the id that the provider has for the account; it may be one that usher
	// does not know, or could not have ([policies.ValidID]).
	Account policies.AccountID
	// Email is the address that the provider has verified; empty if there is none.
	Email string
	// DisplayName is the claim name; empty if there is none that usher takes.
	DisplayName string
}

// Verifier verifies tokens. Any number of goroutines may use it.
type Verifier struct {
	o        Options
	keys     *keys
	metrics  *metrics
	accepted []string
}

// New makes a verifier, which asks the provider for nothing until the first token
// comes. The error is that of [Options.Validate], or says which metric is registered
// already.
func New(o Options) (*Verifier, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of identities: %w", err)
	}
	v := &Verifier{o: o, metrics: m, keys: newKeys(o, m)}
	for _, a := range algorithms {
		v.accepted = append(v.accepted, string(a))
	}
	return v, nil
}

// Issuer is the provider's URL.
func (v *Verifier) Issuer() string { return v.o.Issuer }

// Verify returns what token proves. Errors: ErrRefused, UnavailableError, and ctx's.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	identity, err := v.verify(ctx, token)
	var down *UnavailableError
	switch {
	case err == nil:
		v.metrics.tokens.WithLabelValues("accepted").Inc()
		return identity, nil
	case ctx.Err() != nil:
		return Identity{}, ctx.Err()
	case errors.As(err, &down):
		v.metrics.tokens.WithLabelValues("unverified").Inc()
		return Identity{}, down
	}
	v.metrics.tokens.WithLabelValues("refused").Inc()
	v.o.Logger.LogAttrs(ctx, slog.LevelInfo, "a token was refused", slog.Any("error", err))
	return Identity{}, ErrRefused
}

func (v *Verifier) verify(ctx context.Context, token string) (Identity, error) {
	now := v.o.Clock()
	signature := &proof{keys: v.keys}
	verified, err := oidc.NewVerifier(v.o.Issuer, signature, &oidc.Config{
		ClientID: v.o.Audience, SupportedSigningAlgs: v.accepted,
		Now: func() time.Time { return now.Add(-skew) },
	}).Verify(ctx, token)
	if signature.err != nil { // the library keeps its text only
		return Identity{}, signature.err
	}
	if err != nil {
		return Identity{}, err
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return Identity{}, err
	}
	// The library lets five minutes pass here.
	if begin, ok := claims["nbf"].(float64); ok && now.Add(skew).Before(time.Unix(int64(begin), 0)) {
		return Identity{}, errors.New("the token is not good yet")
	}
	account, ok := claims[v.o.AccountClaim].(string)
	if !ok || account == "" {
		return Identity{}, fmt.Errorf("the claim %q names no account", v.o.AccountClaim)
	}
	return Identity{Account: policies.AccountID(account), Email: verifiedEmail(claims), DisplayName: displayName(claims)}, nil
}

// verifiedEmail is the claim email, if it counts (OpenID Connect Core, 5.1). Some
// providers write the boolean as text.
func verifiedEmail(claims map[string]any) string {
	email, ok := claims["email"].(string)
	verified := claims["email_verified"] == true || claims["email_verified"] == "true"
	if !ok || !verified || policies.CheckEmail(email) != "" {
		return ""
	}
	return policies.NormalizeName(email)
}

func displayName(claims map[string]any) string {
	name, _ := claims["name"].(string)
	if policies.CheckName(name, true) != "" {
		return ""
	}
	return policies.NormalizeName(name)
}

// proof verifies the signature of one token, and keeps why that was not possible.
type proof struct {
	keys *keys
	err  error
}

var _ oidc.KeySet = (*proof)(nil)

// VerifySignature implements [oidc.KeySet].
func (p *proof) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := p.keys.verify(ctx, token)
	var down *UnavailableError
	if errors.As(err, &down) {
		p.err = down
	}
	return payload, err
}
