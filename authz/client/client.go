// Package client asks a sidecar from a Go program: one check at a time, again where
// it may be asked again, and never an allow where there was no answer.
//
//	c, err := client.New(client.Options{URL: "unix:///run/usher.sock"})
//	…
//	d, err := c.Check(client.AtLeast(ctx, revision), client.Question{…})
//
// [Client.Require] is middleware for net/http; package ginclient has it for gin.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// Options configures a [Client].
type Options struct {
	// URL is the sidecar's: http://127.0.0.1:8181, https://…, or unix:///PATH of a socket.
	URL string
	// Token is a service token with the scope checks; empty where none is asked for.
	Token string
	// Tries is how often one check is asked at most, default 3; the time is that of the
	// caller's context.
	Tries uint
	// HTTP sends the requests; default: a client of its own, with five seconds a try.
	HTTP *http.Client
}

const (
	defaultTries   = 3
	defaultTimeout = 5 * time.Second
	maxAnswer      = 1 << 20
	firstPause     = 20 * time.Millisecond
)

// Client asks one sidecar. It may be used from any number of goroutines.
type Client struct {
	base  string
	token string
	tries uint
	http  *http.Client
}

// New makes a client; it connects when it is asked. The error says what is wrong with
// the URL.
func New(o Options) (*Client, error) {
	c := &Client{base: strings.TrimSuffix(o.URL, "/"), token: o.Token, tries: o.Tries, http: o.HTTP}
	u, err := url.Parse(o.URL)
	switch {
	case err == nil && u.Scheme == "unix" && u.Path != "" && u.Host == "":
		c.base = "http://usher"
		if c.http == nil {
			c.http = &http.Client{Timeout: defaultTimeout, Transport: bySocket(u.Path)}
		}
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "":
	default:
		return nil, fmt.Errorf("the sidecar's URL %q is not http[s]://HOST[:PORT] or unix:///PATH", o.URL)
	}
	if c.http == nil {
		c.http = &http.Client{Timeout: defaultTimeout}
	}
	if c.tries == 0 {
		c.tries = defaultTries
	}
	return c, nil
}

func bySocket(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", path)
	}}
}

// Question is one check: may the account do the action on the resource?
type Question struct {
	Account  policies.AccountID
	Action   policies.ActionName
	Resource policies.Resource
	// Context is what the platform's guardrails read: a ticket, an address. It decides
	// nothing else.
	Context map[string]any
}

// Decision is the answer. What it rests on is in the fields of api.md (Check API).
type Decision struct {
	Allow      bool
	Reason     policies.Reason
	Level      policies.Level
	Roles      []string
	Policies   []policies.PolicyID
	Owner      policies.AccountID
	Revision   policies.Revision
	ValidUntil string // RFC 3339; empty: until something changes
	// Guardrail is why guardrails deny what the roles allow; only with that reason.
	Guardrail []string
}

// StatusError is an answer that is none: do not do what was asked about. Find it
// with errors.As.
type StatusError struct {
	Status  int
	Problem problem.Problem // zero if the answer was no problem document
}

func (e *StatusError) Error() string {
	if e.Problem.Detail == "" {
		return fmt.Sprintf("the sidecar answered with %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the sidecar answered with %d %s: %s", e.Status, http.StatusText(e.Status), e.Problem.Detail)
}

type leastKey struct{}

// AtLeast makes checks under the context answer from a revision or a later one: that
// of a write (Usher-Revision), handed on to whoever must see it.
func AtLeast(ctx context.Context, revision policies.Revision) context.Context {
	return context.WithValue(ctx, leastKey{}, max(revision, least(ctx)))
}

func least(ctx context.Context) policies.Revision {
	revision, _ := ctx.Value(leastKey{}).(policies.Revision)
	return revision
}

// Check asks. It tries again when the connection breaks and on 429 and 503, until the
// tries or ctx end; a check changes nothing. The error is a [*StatusError], ctx's, or
// the network's, and with it the decision does not allow.
func (c *Client) Check(ctx context.Context, q Question) (Decision, error) {
	body, err := json.Marshal(evaluationOf(q))
	if err != nil {
		return Decision{}, fmt.Errorf("encode a check: %w", err)
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = firstPause
	return backoff.Retry(ctx, func() (Decision, error) {
		d, err := c.try(ctx, body)
		var status *StatusError
		if errors.As(err, &status) && status.Status != http.StatusServiceUnavailable && status.Status != http.StatusTooManyRequests {
			return Decision{}, backoff.Permanent(err)
		}
		return d, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(c.tries))
}

func (c *Client) try(ctx context.Context, body []byte) (Decision, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/access/v1/evaluation", bytes.NewReader(body))
	if err != nil {
		return Decision{}, backoff.Permanent(fmt.Errorf("make a check: %w", err))
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if revision := least(ctx); revision > 0 {
		r.Header.Set("Usher-Min-Revision", revision.String())
	}
	response, err := c.http.Do(r)
	if err != nil {
		return Decision{}, fmt.Errorf("ask the sidecar: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Decision{}, fmt.Errorf("read the sidecar's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		status := &StatusError{Status: response.StatusCode}
		_ = json.Unmarshal(text, &status.Problem) // an answer that is no problem is told by its status
		return Decision{}, status
	}
	var got answer
	if err := json.Unmarshal(text, &got); err != nil {
		return Decision{}, backoff.Permanent(fmt.Errorf("read the sidecar's answer: %w", err))
	}
	return got.decision(), nil
}

// evaluation is an AuthZEN request.
type evaluation struct {
	Subject  entity         `json:"subject"`
	Action   action         `json:"action"`
	Resource entity         `json:"resource"`
	Context  map[string]any `json:"context,omitzero"`
}

type entity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type action struct {
	Name policies.ActionName `json:"name"`
}

func evaluationOf(q Question) evaluation {
	return evaluation{
		Subject:  entity{"account", string(q.Account)},
		Action:   action{q.Action},
		Resource: entity{string(q.Resource.Type), q.Resource.ID},
		Context:  q.Context,
	}
}

// answer is an AuthZEN response.
type answer struct {
	Decision bool `json:"decision"`
	Context  struct {
		Reason     policies.Reason     `json:"reason"`
		Level      policies.Level      `json:"level"`
		Roles      []string            `json:"roles"`
		Policies   []policies.PolicyID `json:"policies"`
		Owner      policies.AccountID  `json:"owner"`
		Revision   policies.Revision   `json:"revision"`
		ValidUntil string              `json:"valid_until"`
		Guardrail  []string            `json:"guardrail"`
	} `json:"context"`
}

func (a *answer) decision() Decision {
	return Decision{
		Allow: a.Decision, Reason: a.Context.Reason, Level: a.Context.Level, Roles: a.Context.Roles, Policies: a.Context.Policies,
		Owner: a.Context.Owner, Revision: a.Context.Revision, ValidUntil: a.Context.ValidUntil, Guardrail: a.Context.Guardrail,
	}
}
