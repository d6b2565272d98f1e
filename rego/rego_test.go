package rego_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/rego"
)

// TestRego runs the Rego tests: `go test ./rego` is `opa test rego`, and every
// line of the modules that decide must be run by one of them.
func TestRego(t *testing.T) {
	t.Parallel()
	modules, store, err := tester.Load([]string{"."}, loader.GlobExcludeName(".regal", 1))
	require.NoError(t, err)
	transaction, err := store.NewTransaction(t.Context())
	require.NoError(t, err)
	defer store.Abort(t.Context(), transaction)
	coverage := cover.New()
	results, err := tester.NewRunner().SetModules(modules).SetStore(store).SetTimeout(time.Minute).
		EnableTracing(true).SetCoverageQueryTracer(coverage).RunTests(t.Context(), transaction)
	require.NoError(t, err)

	passed := 0
	for result := range results {
		require.NoError(t, result.Error, "%s.%s", result.Package, result.Name)
		require.True(t, result.Pass(), "%s.%s failed: %v", result.Package, result.Name, result.SubResults)
		passed++
	}
	require.GreaterOrEqual(t, passed, 10)

	for name, file := range coverage.Report(modules).Files {
		if !strings.HasSuffix(name, "_test.rego") {
			require.Empty(t, file.NotCovered, "%s has lines that no test runs", name)
		}
	}
}

// TestModules: what is embedded is what stands in the tree, without tests, and
// passes OPA's strict check alone.
func TestModules(t *testing.T) {
	modules := rego.Modules()
	require.Contains(t, modules, "usher/authz/decision.rego")
	for path, source := range modules {
		require.NotContains(t, path, "_test.rego")
		onDisk, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(onDisk), source)
	}
	parsed := map[string]*ast.Module{}
	for path, source := range modules {
		module, err := ast.ParseModuleWithOpts(path, source, ast.ParserOptions{ProcessAnnotation: true})
		require.NoError(t, err)
		parsed[path] = module
	}
	compiler := ast.NewCompiler().WithStrict(true)
	compiler.Compile(parsed)
	require.False(t, compiler.Failed(), "%v", compiler.Errors)

	// The entry points of the bundle are these two and no others.
	var entrypoints []string
	for _, ref := range compiler.GetAnnotationSet().Flatten() {
		if ref.Annotations != nil && ref.Annotations.Entrypoint {
			entrypoints = append(entrypoints, ref.Path.String())
		}
	}
	require.ElementsMatch(t, []string{"data.usher.authz.decision", "data.usher.authz.allow"}, entrypoints)
}
