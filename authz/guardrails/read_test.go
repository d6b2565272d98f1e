package guardrails_test

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/policiestest"
)

// TestRead: the Rego of a directory, and nothing else.
func TestRead(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sources, err := guardrails.Read(fstest.MapFS{
		"a.rego": file("a"), "below/b_test.rego": file("b"), "README.md": file("x"), ".git/c.rego": file("x"), ".d.rego": file("x"),
	})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a.rego": "a", "below/b_test.rego": "b"}, sources)
	_, err = guardrails.Read(fstest.MapFS{"README.md": file("x")})
	require.ErrorContains(t, err, "no files that end in .rego")
	_, err = guardrails.Read(fstest.MapFS{"a.rego": file(string(make([]byte, policies.MaxGuardrailsBytes))), "b.rego": file("b")})
	_, ok := errors.AsType[*policies.TooLargeError](err)
	require.True(t, ok)
}

// TestBuild: the policy with guardrails, and what came of their tests.
func TestBuild(t *testing.T) {
	t.Parallel()
	inForce, err := policiestest.PolicyInForce()
	require.NoError(t, err)
	sources := map[string]string{
		"x.rego":      "package usher.guardrails\n\n# METADATA\n# custom:\n#   actions: [\"*\"]\ndeny contains \"no\"\n",
		"x_test.rego": "package usher.guardrails_test\n\ntest_no if data.usher.guardrails.deny == {\"no\"}\n",
	}
	built, results, err := guardrails.Build(t.Context(), inForce, sources)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"usher/guardrails/x.rego": sources["x.rego"]}, built.Guardrails())
	require.Len(t, results, 1)
	sources["x.rego"] = "package usher"
	_, _, err = guardrails.Build(t.Context(), inForce, sources)
	require.ErrorContains(t, err, "x.rego:1")
}
