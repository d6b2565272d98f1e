package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const timedMisses = 50

// measureMisses evaluates on the state, and the same by OPA alone on its own store.
func measureMisses(ctx context.Context, found *InProcess, path string, state *authz.State, questions []question, grants int) error {
	before := liveHeap()
	read, err := loadBundle(path)
	if err != nil {
		return err
	}
	store := inmem.NewFromObjectWithOpts(read.Data, inmem.OptReturnASTValuesOnRead(true))
	read.Data = nil
	found.OPABytesPerGrant = (float64(liveHeap()) - float64(before)) / float64(grants)
	options := []func(*rego.Rego){
		rego.Store(store), rego.Query("data.usher.authz.effective"),
		rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }),
	}
	for _, m := range read.Modules {
		options = append(options, rego.ParsedModule(m.Parsed))
	}
	query, err := rego.New(options...).PrepareForEval(ctx)
	if err != nil {
		return fmt.Errorf("prepare the query in OPA's store: %w", err)
	}
	inputs := make([]ast.Value, len(questions))
	for i := range questions {
		body, err := checkBody(questions[i].Question, 0)
		if err != nil {
			return err
		}
		if inputs[i], err = ast.ValueFromReader(bytes.NewReader(body)); err != nil {
			return fmt.Errorf("read a question as OPA's input: %w", err)
		}
	}
	var failed error
	at := 0
	next := func() int {
		at++
		return at % len(questions)
	}
	ours, theirs := fastest(timedMisses, func(n int) {
		for range n {
			q := &questions[next()]
			_, err := state.Policy().Effective(ctx, state, time.Now(), policies.AccountID(q.Subject),
				policies.Resource{Type: policies.ResourceType(q.ResourceType), ID: q.ResourceID})
			failed = cmp.Or(failed, err)
		}
	}, func(n int) {
		for range n {
			_, err := query.Eval(ctx, rego.EvalParsedInput(inputs[next()]))
			failed = cmp.Or(failed, err)
		}
	})
	runtime.KeepAlive(store)
	found.Miss = Miss{Nanoseconds: ours / timedMisses, OfFloor: ours / theirs}
	return failed
}

func loadBundle(path string) (*bundle.Bundle, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	read, err := bundle.NewReader(file).WithSkipBundleVerification(true).Read()
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read the bundle as OPA does: %w", err)
	}
	return &read, nil
}
