package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// waiting is the options of commands that write.
type waiting struct {
	Wait      bool          `help:"Wait until every connected sidecar answers from what was written."`
	WaitLimit time.Duration `default:"1m" help:"How long to wait for that, before it is an error."`
}

// onDatabase waits for revision by the database.
func (w waiting) onDatabase(ctx context.Context, s *store.Store, revision policies.Revision) error {
	if !w.Wait {
		return nil
	}
	r, err := s.AwaitApplied(ctx, revision, w.WaitLimit)
	if err != nil {
		return fmt.Errorf("wait for the sidecars: %w", err)
	}
	names := make([]string, len(r.Behind))
	for i, sidecar := range r.Behind {
		names[i] = sidecar.Name
	}
	return w.outcome(revision.String(), r.Connected-r.Applied, names)
}

// outcome is an error if some sidecars are behind, of which names are named.
func (w waiting) outcome(revision string, behind int, names []string) error {
	if behind == 0 {
		return nil
	}
	return fmt.Errorf("it is written, but revision %s is not at %d of the sidecars after %s: %s", revision, behind, w.WaitLimit, strings.Join(names, ", "))
}

// receipt is the admin server's answer.
type receipt struct {
	Sidecars struct {
		Connected int `json:"connected"`
		Applied   int `json:"applied"`
	} `json:"sidecars"`
	Behind []struct {
		Sidecar string `json:"sidecar"`
	} `json:"behind"`
}

// onAdmin waits for revision by the admin server, which bounds each wait itself.
func (w waiting) onAdmin(ctx context.Context, admin *client, revision string) error {
	if !w.Wait {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, w.WaitLimit)
	defer cancel()
	var r receipt
	err := error(nil)
	for err == nil && (r.Behind == nil || len(r.Behind) > 0) && bounded.Err() == nil {
		r, err = admin.receipt(bounded, revision, "?wait=applied")
	}
	if bounded.Err() != nil && ctx.Err() == nil {
		r, err = admin.receipt(ctx, revision, "") // who is behind
	}
	if err != nil {
		return fmt.Errorf("it is written, revision %s, but whether the sidecars have it is not known: %w", revision, err)
	}
	names := make([]string, len(r.Behind))
	for i, b := range r.Behind {
		names[i] = b.Sidecar
	}
	return w.outcome(revision, r.Sidecars.Connected-r.Sidecars.Applied, names)
}

func (c *client) receipt(ctx context.Context, revision, query string) (receipt, error) {
	var r receipt
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/v1/revisions/"+revision+query, "", nil)
	if err != nil {
		return r, err
	}
	defer func() { _ = resp.Body.Close() }()
	return r, json.UnmarshalRead(io.LimitReader(resp.Body, maxAnswer), &r)
}
