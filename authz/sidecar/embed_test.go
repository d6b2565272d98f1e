package sidecar_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/sidecar"
	"github.com/usher-authz/usher/policies"
)

// TestEmbedded: a program asks its own sidecar, without any listener.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	bundle := filepath.Join(t.TempDir(), "b")
	write(t, bundle, bundleOf(t, 3, company(t)))
	s, err := sidecar.New(sidecar.Options{Bundle: bundle, NoListener: true})
	require.NoError(t, err)
	q := authz.Question{SubjectType: "account", Subject: "mia", Action: "environment.control.GetEnvInfo", ResourceType: "environment", ResourceID: "e"}
	_, err = s.Check(t.Context(), 0, q)
	require.ErrorAs(t, err, new(*authz.UnavailableError), "it has not begun")
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { stop(t, s) })
	require.Nil(t, s.Addr())
	d, err := s.Check(t.Context(), 3, q)
	require.NoError(t, err)
	require.True(t, d.Allow)
	all, err := s.Decide(t.Context(), 0, []authz.Question{q, q})
	require.NoError(t, err)
	require.Equal(t, []authz.Decision{d, d}, all)
	found, err := s.Search(t.Context(), 0, authz.Search{Sought: authz.SoughtResources, Question: q, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, authz.Found{Revision: policies.Revision(3), IDs: []string{"e"}}, found)
}

// A Go program has a whole sidecar in its process: it follows the admin server, and
// answers from memory.
func ExampleSidecar_Check() {
	s, err := sidecar.New(sidecar.Options{AdminURL: "http://127.0.0.1:1", Token: "ush_…", NoListener: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Stop(ctx) }()
	d, err := s.Check(ctx, 0, authz.Question{
		SubjectType: "account", Subject: "mia", Action: "environment.control.StartEnv",
		ResourceType: "environment", ResourceID: "my-app",
	})
	fmt.Println(d.Allow, err) // nobody listens on that port: an error, and no allow
	// Output: false no state has arrived yet
}
