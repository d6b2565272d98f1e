package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"golang.org/x/sync/singleflight"
)

const (
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time between two fetches: a token that is signed by a new
	// key is refused for so long at most.
	fetchPause = time.Second
	// maxAge is when the keys are fetched again though nobody misses one.
	maxAge = 5 * time.Minute
	// maxKeysBytes bounds what a provider may answer.
	maxKeysBytes = 1 << 20
)

// errUnknownKey says that the token names a key that the provider does not publish.
var errUnknownKey = errors.New("the token is signed by a key that the provider does not publish")

// keys are those that the provider publishes.
type keys struct {
	o       Options
	metrics *metrics
	flight  singleflight.Group

	mu      sync.Mutex // of what follows
	set     jose.JSONWebKeySet
	fetched time.Time // when set was; zero: never
	tried   time.Time // when it was last asked for
	err     error     // of that
}

func newKeys(o Options, m *metrics) *keys { return &keys{o: o, metrics: m} }

// verify returns the payload of token, if one of the provider's keys signed it.
func (k *keys) verify(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errors.New("the token has not one signature")
	}
	set, err := k.present(ctx, maxAge)
	if err != nil {
		return nil, err
	}
	payload, err := verifyBy(set, signed)
	if !errors.Is(err, errUnknownKey) {
		return payload, err
	}
	if set, err = k.present(ctx, fetchPause); err != nil {
		return nil, err
	}
	payload, err = verifyBy(set, signed)
	if down := k.lastError(); errors.Is(err, errUnknownKey) && down != nil {
		return nil, &UnavailableError{Cause: down} // the key may be a new one
	}
	return payload, err
}

// verifyBy tries the keys that the token may mean.
func verifyBy(set jose.JSONWebKeySet, signed *jose.JSONWebSignature) ([]byte, error) {
	header := signed.Signatures[0].Header
	known := false
	for _, key := range set.Keys {
		if header.KeyID != "" && key.KeyID != header.KeyID || !signs(key, header.Algorithm) {
			continue
		}
		if header.KeyID != "" {
			known = true
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	if known {
		return nil, errors.New("the signature is wrong")
	}
	return nil, errUnknownKey
}

// signs tells whether key is one for signatures of the algorithm.
func signs(key jose.JSONWebKey, algorithm string) bool {
	return key.IsPublic() && (key.Use == "" || key.Use == "sig") && (key.Algorithm == "" || key.Algorithm == algorithm)
}

// present returns the keys, asked for again if they are older than age. Without the
// provider old ones are better than none.
func (k *keys) present(ctx context.Context, age time.Duration) (jose.JSONWebKeySet, error) {
	if set, err, due := k.look(age); !due {
		return set, err
	}
	// Whoever waits for a fetch must not end it for the others.
	done := k.flight.DoChan("", func() (any, error) {
		if _, _, due := k.look(age); due { // else somebody was faster
			k.refresh(context.WithoutCancel(ctx))
		}
		return nil, nil
	})
	select {
	case <-done:
	case <-ctx.Done():
		return jose.JSONWebKeySet{}, ctx.Err()
	}
	set, err, _ := k.look(maxAge)
	return set, err
}

// look returns what is known, and whether it is time to ask.
func (k *keys) look(age time.Duration) (set jose.JSONWebKeySet, err error, due bool) { //nolint:revive // due says whether the others count
	now := k.o.Clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	due = now.Sub(k.fetched).Abs() >= age && now.Sub(k.tried).Abs() >= fetchPause
	if k.fetched.IsZero() {
		err = &UnavailableError{Cause: k.err}
	}
	return k.set, err, due
}

func (k *keys) lastError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// refresh asks the provider, and notes the outcome.
func (k *keys) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	set, err := k.fetch(ctx)
	now := k.o.Clock()
	k.mu.Lock()
	failing := k.err != nil
	k.tried, k.err = now, err
	if err == nil {
		k.set, k.fetched = set, now
	}
	k.mu.Unlock()
	switch {
	case err != nil:
		k.metrics.fetches.WithLabelValues("failed").Inc()
		if !failing { // one line for each outage
			k.o.Logger.WarnContext(ctx, "the OpenID provider's keys cannot be fetched", "issuer", k.o.Issuer, "error", err)
		}
	default:
		k.metrics.fetches.WithLabelValues("ok").Inc()
		if failing {
			k.o.Logger.InfoContext(ctx, "the OpenID provider's keys can be fetched again", "issuer", k.o.Issuer)
		}
	}
}

// fetch finds out where the provider's keys are (OpenID Connect Discovery 1.0, 4),
// and gets them.
func (k *keys) fetch(ctx context.Context) (set jose.JSONWebKeySet, err error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.o.Client), k.o.Issuer)
	if err != nil {
		return set, fmt.Errorf("discover %s: %w", k.o.Issuer, err)
	}
	var found struct {
		KeysURL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		return set, fmt.Errorf("read the discovery document of %s: %w", k.o.Issuer, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, found.KeysURL, http.NoBody)
	if err != nil {
		return set, fmt.Errorf("get the keys of %s: %w", k.o.Issuer, err)
	}
	response, err := k.o.Client.Do(request)
	if err != nil {
		return set, fmt.Errorf("get the keys of %s: %w", k.o.Issuer, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return set, fmt.Errorf("get the keys of %s: %s answered %s", k.o.Issuer, found.KeysURL, response.Status)
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxKeysBytes))
	if err != nil {
		return set, fmt.Errorf("read the keys of %s: %w", k.o.Issuer, err)
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return set, fmt.Errorf("read the keys of %s: %w", k.o.Issuer, err)
	}
	return set, nil
}
