package guardrails

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// testLimit bounds one test.
const testLimit = 5 * time.Second

// TestResult is what came of one test.
type TestResult struct {
	Name    string        `json:"name"` // with its package
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Passed  bool          `json:"passed"`
	Skipped bool          `json:"skipped,omitzero"` // its name says that it is not to run yet
	Reason  string        `json:"reason,omitempty"` // why it failed
	Output  string        `json:"output,omitempty"` // of print
	Took    time.Duration `json:"-"`
}

// Test runs the tests (file name → source) as `opa test` does, over all modules of the
// policy that would be in force, which must compile with them and without. It gives the
// results in the order of files and lines. The error is a [*policies.InvalidError] of
// what does not compile, or of each test that failed, or that of ctx.
func Test(ctx context.Context, inForce policies.PolicyInForce, tests map[string]string) (results []TestResult, err error) {
	if _, err := authz.NewPolicy(ctx, inForce); err != nil {
		return nil, invalid(err)
	}
	sources := maps.Clone(inForce.Modules)
	for name, source := range tests {
		if IsTest(name) {
			sources[policies.GuardrailsPath+name] = source
		}
	}
	var f faults
	modules := map[string]*ast.Module{}
	for name, source := range sources {
		if modules[name], err = parse(name, source); err != nil {
			f.addAST(name, err)
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler().WithCapabilities(authz.Capabilities()).WithDefaultRegoVersion(ast.RegoV1).WithEnablePrintStatements(true)
	found, err := tester.NewRunner().SetCompiler(compiler).SetModules(modules).SetTimeout(testLimit).RaiseBuiltinErrors(true).
		CapturePrintOutput(true).SetParallel(1).RunTests(ctx, nil)
	if err != nil {
		return nil, invalid(err)
	}
	for r := range found {
		results = append(results, resultOf(r))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(results, func(a, b TestResult) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range results {
		if !r.Passed && !r.Skipped {
			f.add(r.File, r.Line, fmt.Sprintf("%s failed: %s", r.Name, r.Reason))
		}
	}
	return results, f.err()
}

// invalid tells where each error of OPA's compiler is.
func invalid(err error) error {
	var f faults
	f.addAST("", err)
	return f.err()
}

func resultOf(r *tester.Result) TestResult {
	made := TestResult{
		Name: strings.TrimPrefix(r.Package, "data.") + "." + r.Name, Passed: r.Pass(), Output: string(r.Output), Took: r.Duration,
		Skipped: r.Skip, //nolint:forbidigo // nothing is skipped here: it is told
	}
	if r.Location != nil {
		made.File, made.Line = path.Clean(strings.TrimPrefix(r.Location.File, policies.GuardrailsPath)), r.Location.Row
	}
	switch {
	case r.Error != nil:
		made.Reason = r.Error.Error()
	case r.Fail:
		made.Reason = "not so"
	}
	return made
}
