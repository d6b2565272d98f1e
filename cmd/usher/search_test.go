package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

// twoPages is a sidecar whose search has two pages, the second of the revision given.
func twoPages(t *testing.T, revision string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `{"page":{"token":"next"}}`) {
			_, _ = io.WriteString(w, `{"page":{"next_token":""},"context":{"revision":`+revision+`},"results":[{"type":"account","id":"c"}]}`)
			return
		}
		_, _ = io.WriteString(w, `{"page":{"next_token":"next"},"context":{"revision":7},"results":[{"type":"account","id":"a"},{"type":"account","id":"b"}]}`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestWhoCanFollowsPages(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, nil, "who-can", "a.B", "environment:e", "--sidecar-url", twoPages(t, "7"))
	require.Zero(t, code, stderr)
	require.Equal(t, "ACCOUNT\na\nb\nc\n", stdout)
	require.Equal(t, "3, revision 7\n", stderr)

	code, stdout, stderr = run(t, nil, "who-can", "a.B", "environment:e", "--sidecar-url", twoPages(t, "8"))
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "one page at revision 7 and the next at 8")
}

// TestRepresentatives: of each policy that counts for the type one action is looked
// for, and no more than are needed.
func TestRepresentatives(t *testing.T) {
	t.Parallel()
	environment, group := policies.TypeEnvironment, policies.TypeGroup
	all := []granting{
		{Resources: []policies.ResourceType{environment}, Actions: []policies.ActionName{"a", "b"}},
		{Resources: []policies.ResourceType{environment, group}, Actions: []policies.ActionName{"c", "a"}},
		{Resources: []policies.ResourceType{group}, Actions: []policies.ActionName{"d"}},
		{Resources: []policies.ResourceType{environment}},
	}
	require.Equal(t, []policies.ActionName{"a"}, representatives(all, environment))
	require.Equal(t, []policies.ActionName{"c", "d"}, representatives(all, group))
	require.Empty(t, representatives(all, policies.TypeAccount))
}
