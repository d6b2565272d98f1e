package main

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
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

// client calls a usher server, admin or sidecar.
type client struct {
	base  string
	token string
	http  *http.Client
}

// Calls other than imports and bundles, which may take their time.
const callTimeout = 30 * time.Second

// maxAnswer bounds what is read of an answer that is kept in memory.
const maxAnswer = 64 << 20

// newClient checks base, which came from the option named flag.
func newClient(flag, base, token string) (*client, error) {
	if base == "" {
		return nil, missing(flag, "it is in dev.env when `usher dev` runs")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("--%s must be a URL like http://127.0.0.1:8080", flag)
	}
	return &client{base: strings.TrimSuffix(base, "/"), token: token, http: &http.Client{}}, nil
}

// missing says that the option named flag is needed, and how to give it.
func missing(flag, hint string) error {
	text := fmt.Sprintf("give --%s or set USHER_%s", flag, strings.ToUpper(settingsKey(flag)))
	if hint != "" {
		text += " (" + hint + ")"
	}
	return errors.New(text)
}

// problem is an error's body (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"errors"`
}

// statusError is an answer that is not a success.
type statusError struct {
	Status  int
	Server  string
	Problem problem
}

func (e *statusError) Error() string {
	text := e.Problem.Detail
	if text == "" {
		text = e.Problem.Title
	}
	if text == "" {
		text = http.StatusText(e.Status)
	}
	for _, f := range e.Problem.Errors {
		text += "; " + f.Field + " " + f.Reason
	}
	line := fmt.Sprintf("%s answered %d: %s", e.Server, e.Status, text)
	if e.Status == http.StatusUnauthorized {
		line += " (is --token or USHER_TOKEN right? `usher token create` makes one)"
	}
	return line
}

// do makes a request; the caller closes the body. An answer that is not a
// success is a [statusError]. change adds to the request.
func (c *client) do(
	ctx context.Context, method, path, contentType string, body io.Reader, change ...func(*http.Request),
) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make a request to %s: %w", c.base, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	failed := &statusError{Status: resp.StatusCode, Server: c.base}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		_ = json.Unmarshal(data, &failed.Problem) // what is no problem document has a status still
	}
	return nil, failed
}

// explain turns a transport's error into what a person can act on.
func (c *client) explain(err error) error {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: is the server running? `usher dev` starts one of each", c.base)
	case errors.As(err, &dns):
		return fmt.Errorf("the host of %s cannot be found", c.base)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer in time", c.base)
	}
	return fmt.Errorf("call %s: %w", c.base, err)
}

// postJSON sends in and decodes the answer into out.
func (c *client) postJSON(ctx context.Context, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	return c.answer(ctx, http.MethodPost, path, "application/json", bytes.NewReader(data), out)
}

// getJSON decodes what is at path into out.
func (c *client) getJSON(ctx context.Context, path string, out any, change ...func(*http.Request)) error {
	return c.answer(ctx, http.MethodGet, path, "", nil, out, change...)
}

func (c *client) answer(ctx context.Context, method, path, contentType string, body io.Reader, out any, change ...func(*http.Request)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.do(ctx, method, path, contentType, body, change...)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.UnmarshalRead(io.LimitReader(resp.Body, maxAnswer), out); err != nil {
		return fmt.Errorf("%s answered with something else than JSON: %w", c.base, err)
	}
	return nil
}

// list is a page of one of the admin server's lists.
type list[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor"`
}

// listAll follows the list at path, which has no query, to its end.
func listAll[T any](ctx context.Context, c *client, path string, change ...func(*http.Request)) ([]T, error) {
	var all []T
	for cursor := ""; ; {
		var page list[T]
		if err := c.getJSON(ctx, path+"?"+url.Values{"limit": {"200"}, "cursor": {cursor}}.Encode(), &page, change...); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.NextCursor; cursor == "" {
			return all, nil
		}
	}
}
