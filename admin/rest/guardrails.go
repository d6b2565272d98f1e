package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/policies"
)

const (
	tagGuardrails = "Guardrails"
	// guardrailsTimeout bounds the compiling and testing of guardrails.
	guardrailsTimeout = 20 * time.Second
)

type guardrailsView struct {
	Files map[string]string `json:"files" doc:"The Rego in force by file name, each rule with the condition of its annotation; empty: there are no guardrails."`
	Tests int               `json:"tests,omitzero" doc:"How many tests passed; in the answer to a PUT only."`
	ETag  string            `json:"etag" doc:"Of the whole policy in force."`
}

func viewGuardrails(p policies.PolicyInForce, etag string) guardrailsView {
	v := guardrailsView{Files: map[string]string{}, ETag: etag}
	for name, source := range p.Guardrails() {
		v.Files[strings.TrimPrefix(name, policies.GuardrailsPath)] = source
	}
	return v
}

type guardrailsInput struct {
	Files *map[string]string `json:"files" doc:"All guardrails by file name, Rego in package usher.guardrails or below it. Those that end in _test.rego are tests: they are run and not kept."`
}

func (a *API) guardrailOperations() {
	register(a, spec{
		id: "get-guardrails", method: http.MethodGet, path: "/guardrails", tag: tagGuardrails, summary: "Show the guardrails in force",
		scope: policies.ScopeCollaboration, who: whoServices,
	}, a.getGuardrails)
	register(a, spec{
		id: "put-guardrails", method: http.MethodPut, path: "/guardrails", tag: tagGuardrails, summary: "Put guardrails in force, in place of all there are",
		description: "They are compiled with the Rego that decides and their tests run before they come in force; with what is broken, or fails, nothing " +
			"changes, and `errors` names each fault by FILE:LINE.",
		scope: policies.ScopeCollaboration, who: whoServices, also: []int{http.StatusCreated},
	}, a.putGuardrails)
	register(a, spec{
		id: "delete-guardrails", method: http.MethodDelete, path: "/guardrails", tag: tagGuardrails, summary: "Take all guardrails out of force",
		scope: policies.ScopeCollaboration, who: whoServices, status: http.StatusNoContent,
	}, a.deleteGuardrails)
}

func (a *API) getGuardrails(ctx context.Context, _ *request, _ *none, _ *none) (*shown[guardrailsView], error) {
	item, err := a.store.GetGuardrails(ctx)
	if err != nil {
		return nil, err
	}
	return show(item.ETag, viewGuardrails(item.Value, item.ETag)), nil
}

func (a *API) putGuardrails(ctx context.Context, r *request, _ *none, b *guardrailsInput) (*written[guardrailsView], error) {
	modules, err := guardrails.Make(*b.Files)
	if err != nil {
		return nil, err
	}
	if len(modules) == 0 {
		return nil, invalid("files", "has no rules: DELETE takes all guardrails out of force")
	}
	var passed int
	result, err := a.store.PutGuardrails(ctx, r.caller.call(), modules, func(ctx context.Context, next policies.PolicyInForce) error {
		passed, err = a.testGuardrails(ctx, next, *b.Files)
		return err
	})
	if err != nil {
		return nil, err
	}
	view := viewGuardrails(result.Value, result.ETag)
	view.Tests = passed
	return wrote(a, r, result, view), nil
}

// testGuardrails compiles and tests what would be in force, one at a time: it is work
// for a processor, and checks are answered here too.
func (a *API) testGuardrails(ctx context.Context, next policies.PolicyInForce, sources map[string]string) (passed int, err error) {
	select {
	case a.testing <- struct{}{}:
		defer func() { <-a.testing }()
	case <-ctx.Done():
		return 0, &store.UnavailableError{Err: ctx.Err()}
	}
	bounded, cancel := context.WithTimeout(ctx, guardrailsTimeout)
	defer cancel()
	results, err := guardrails.Test(bounded, next, sources)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return 0, invalid("files", fmt.Sprintf("take longer than %s to compile and test", guardrailsTimeout))
	}
	for _, r := range results {
		if r.Passed {
			passed++
		}
	}
	return passed, err
}

func (a *API) deleteGuardrails(ctx context.Context, r *request, _ *none, _ *none) (*gone, error) {
	result, err := a.store.DeleteGuardrails(ctx, r.caller.call())
	if err != nil {
		return nil, err
	}
	return deleted(a, r, result), nil
}
