package dev

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/authz/guardrails"
)

// readGuardrails reads and tests a directory of guardrails before anything is started;
// nil without one.
func readGuardrails(ctx context.Context, dir string) (map[string]string, error) {
	if dir == "" {
		return nil, nil
	}
	inForce, err := EmbeddedPolicy()
	if err != nil {
		return nil, err
	}
	sources, err := guardrails.Read(os.DirFS(dir))
	if err == nil {
		_, _, err = guardrails.Build(ctx, inForce, sources)
	}
	if err != nil {
		return nil, fmt.Errorf("--guardrails %s: %w", dir, err)
	}
	return sources, nil
}

// putGuardrails puts those that were asked for in force.
func (d *platform) putGuardrails(ctx context.Context) error {
	if d.guardrails == nil {
		return nil
	}
	body, err := json.Marshal(map[string]any{"files": d.guardrails})
	if err != nil {
		return err
	}
	c := &rest{base: d.admin.URL(), token: d.state.Token}
	if err := c.firstCall(ctx, http.MethodPut, "/v1/guardrails", string(body)); err != nil {
		return fmt.Errorf("put the guardrails in force: %w", err)
	}
	d.tell("the guardrails in " + d.o.Guardrails + " are in force")
	return nil
}
