package dev

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-json-experiment/json"
)

// demo is the demo company's account document, but for the times, which
// stand relative to the start.
//
//go:embed demo.json
var demo string

// DemoAccount is the id of the demo company.
const DemoAccount = "northwind"

// demoRemoved is a member of the demo whose collaboration is removed after the
// import: `removed` records are in no document.
const demoRemoved = "nora@agency.example"

const demoTimeout = 60 * time.Second

// demoDocument is the demo company as of now.
func demoDocument(now time.Time) string {
	at := func(d time.Duration) string { return now.Add(d).UTC().Truncate(time.Second).Format(time.RFC3339) }
	const day = 24 * time.Hour
	return strings.NewReplacer("IN_30_DAYS", at(30*day), "IN_8_HOURS", at(8*time.Hour), "YESTERDAY", at(-day)).Replace(demo)
}

// importDemo imports the demo company by the admin's REST, as a service would,
// and removes one member.
func importDemo(ctx context.Context, adminURL, token string, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	c := &rest{base: adminURL, token: token}
	if err := c.firstCall(ctx, http.MethodPost, "/v1/import", "["+demoDocument(now)+"]"); err != nil {
		return fmt.Errorf("import the demo company: %w", err)
	}
	data, err := c.call(ctx, http.MethodGet, "/v1/accounts/"+DemoAccount+"/members?search="+demoRemoved, "")
	if err != nil {
		return fmt.Errorf("find a member of the demo company: %w", err)
	}
	var found struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("find a member of the demo company: %w", err)
	}
	if len(found.Items) != 1 {
		return fmt.Errorf("find a member of the demo company: %d have the address %s", len(found.Items), demoRemoved)
	}
	if _, err := c.call(ctx, http.MethodDelete, "/v1/accounts/"+DemoAccount+"/members/"+found.Items[0].ID, ""); err != nil {
		return fmt.Errorf("remove a member of the demo company: %w", err)
	}
	return nil
}

// rest calls the admin server with the service token.
type rest struct{ base, token string }

// errUnauthorized says that the token is not known.
var errUnauthorized = errors.New("the token is not known")

// firstCall is call with a token that was made a moment ago, on the database: an admin
// server on a busy machine may come to know it later than it is asked, so a 401 is
// asked again until ctx ends.
func (c *rest) firstCall(ctx context.Context, method, path, body string) error {
	_, err := backoff.Retry(ctx, func() ([]byte, error) {
		data, err := c.call(ctx, method, path, body)
		if err != nil && !errors.Is(err, errUnauthorized) {
			return nil, backoff.Permanent(err)
		}
		return data, err
	}, backoff.WithMaxElapsedTime(0))
	return err
}

func (c *rest) call(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errUnauthorized
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("%s %s answered %d: %s", method, path, resp.StatusCode, bytes.TrimSpace(data))
	}
	return data, nil
}
