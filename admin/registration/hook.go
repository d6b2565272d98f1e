// Package registration asks the platform for an account: its hook is called when
// the holder of an invitation's link accepts and no account has the address.
//
//	POST <registration URL>                    {"email": …, "display_name": …}
//	200 or 201                                 {"id": …}
//
// The hook is called before anything is written, and again after every failure: so it
// must give the same id for the same address. It may write the account to usher
// itself before it answers; if it does not, accepting does.
package registration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

const (
	// Timeout bounds a call, connecting included.
	Timeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 10
)

// Hook is the platform's way to register accounts. Its methods may be called from
// any number of goroutines.
type Hook struct {
	url, token string
	client     *http.Client
}

// New makes a hook of a URL, http or https. A token is sent along as
// Authorization: Bearer, if there is one. It connects to nothing yet.
func New(address, token string) (*Hook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the registration URL is not an http or https URL")
	}
	return &Hook{url: address, token: token, client: &http.Client{
		Timeout: Timeout,
		// Where else the address of a person goes is not the hook's to say.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

type question struct {
	Email       string `json:"email"`
	DisplayName string `json:"display_name"`
}

// Register returns the id of the account with an address. Its errors hold neither
// the token nor a password of the URL.
func (h *Hook) Register(ctx context.Context, email, displayName string) (policies.AccountID, error) {
	body, err := json.Marshal(question{Email: email, DisplayName: displayName})
	if err != nil {
		return "", fmt.Errorf("encode the registration: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return "", errors.New("the registration URL cannot be called")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if h.token != "" {
		r.Header.Set("Authorization", "Bearer "+h.token)
	}
	answer, err := h.client.Do(r)
	if err != nil {
		return "", fmt.Errorf("call the registration hook: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("the registration hook answers %s", answer.Status)
	}
	return readID(io.LimitReader(answer.Body, maxAnswer))
}

// readID reads the answer; the platform may add members that are not ours.
func readID(body io.Reader) (policies.AccountID, error) {
	var found struct {
		ID policies.AccountID `json:"id"`
	}
	if err := json.UnmarshalRead(body, &found); err != nil {
		return "", errors.New("the registration hook's answer is not JSON with an id")
	}
	if !policies.ValidID(found.ID) {
		return "", errors.New("the registration hook's id is none that an account can have")
	}
	return found.ID, nil
}
