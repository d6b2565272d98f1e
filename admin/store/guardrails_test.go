package store_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/authz/guardrails"
	"github.com/usher-authz/usher/policies"
)

// guardrail is a module that compiles by itself.
func guardrail(t *testing.T, reason string) map[string]string {
	t.Helper()
	modules, err := guardrails.Make(map[string]string{"x.rego": "package usher.guardrails\n\n" +
		"# METADATA\n# custom:\n#   actions: [environment.control.DeleteEnv]\ndeny contains \"" + reason + "\"\n"})
	require.NoError(t, err)
	return modules
}

func passes(context.Context, policies.PolicyInForce) error { return nil }

// TestGuardrails: guardrails come in force by a write like any other, and catalogue and
// Rego stay.
func TestGuardrails(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	before, revision, err := s.PolicyInForce(t.Context())
	require.NoError(t, err)
	require.Empty(t, before.Guardrails())
	one, two := guardrail(t, "one"), guardrail(t, "two")

	var asked policies.PolicyInForce
	set, err := s.PutGuardrails(t.Context(), call(), one, func(_ context.Context, p policies.PolicyInForce) error {
		asked = p
		return nil
	})
	require.NoError(t, err)
	require.True(t, set.Changed)
	require.True(t, set.Created)
	require.Equal(t, revision+1, set.Revision)
	require.Equal(t, one, set.Value.Guardrails())
	require.Equal(t, asked, set.Value, "what was asked about is in force")
	item, err := s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.Equal(t, set.Value, item.Value)
	require.Equal(t, set.ETag, item.ETag)
	without, err := item.Value.WithGuardrails(nil)
	require.NoError(t, err)
	require.Equal(t, before.Digest, without.Digest)

	again, err := s.PutGuardrails(t.Context(), call(), one, passes)
	require.NoError(t, err)
	require.False(t, again.Changed)
	require.Equal(t, set.Revision, again.Revision)
	require.Equal(t, set.ETag, again.ETag)

	// What is refused changes nothing, and neither does a lost race.
	broken := errors.New("it is broken")
	_, err = s.PutGuardrails(t.Context(), call(), two, func(context.Context, policies.PolicyInForce) error { return broken })
	require.ErrorIs(t, err, broken)
	late := call()
	late.IfMatch = `"r1"`
	var lost *policies.PreconditionError
	_, err = s.PutGuardrails(t.Context(), late, two, passes)
	require.ErrorAs(t, err, &lost)
	_, err = s.DeleteGuardrails(t.Context(), late)
	require.ErrorAs(t, err, &lost)
	require.Equal(t, set.ETag, lost.ETag)

	// The audit has who, and what they were before and after.
	late.IfMatch = set.ETag
	_, err = s.PutGuardrails(t.Context(), late, two, passes)
	require.NoError(t, err)
	gone, err := s.DeleteGuardrails(t.Context(), call())
	require.NoError(t, err)
	require.True(t, gone.Changed)
	require.Equal(t, before.Digest, gone.Value.Digest)
	list, err := s.Audit(t.Context(), store.AuditFilter{Kind: policies.KindPolicyInForce}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 4)
	for i, action := range []string{"policy_in_force.put", "guardrails.put", "guardrails.put", "guardrails.delete"} {
		require.Equal(t, action, list.Items[i].Action)
	}
	require.Equal(t, "token-t", list.Items[2].Actor.Token)
	require.Contains(t, string(list.Items[2].Before), `contains \"one\"`)
	require.Contains(t, string(list.Items[2].After), `contains \"two\"`)
	require.NotContains(t, string(list.Items[3].After), "guardrails")
	requireSound(t, s)

	// Many at once: one of them is in force.
	var wait sync.WaitGroup
	for _, modules := range []map[string]string{one, two, one, two} {
		wait.Go(func() {
			if _, err := s.PutGuardrails(t.Context(), call(), modules, passes); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	item, err = s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.Contains(t, []map[string]string{one, two}, item.Value.Guardrails())
	requireSound(t, s)
}

// TestMigrateKeepsGuardrails: another catalogue or Rego comes in force with the guardrails
// that there are, or not at all.
func TestMigrateKeepsGuardrails(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: url})
	migrate := func(p policies.PolicyInForce) error {
		t.Helper()
		_, err := store.Migrate(t.Context(), url, p, io.Discard, store.MigrateOptions{})
		return err
	}
	one := guardrail(t, "one")
	_, err := s.PutGuardrails(t.Context(), call(), one, passes)
	require.NoError(t, err)
	set, err := s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.NoError(t, migrate(inForce(t)))
	same, err := s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.Equal(t, set, same, "the same binary again changes nothing")

	next := inForce(t)
	next.Modules["usher/authz/more.rego"] = "package usher.authz\n\nmore := 7\n"
	next, err = policies.NewPolicyInForce(next.Catalogue, next.Modules)
	require.NoError(t, err)
	require.NoError(t, migrate(next))
	kept, err := s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.Equal(t, one, kept.Value.Guardrails())
	require.Contains(t, kept.Value.Modules, "usher/authz/more.rego")

	clash := inForce(t)
	clash.Modules["usher/authz/more.rego"] = "package usher.guardrails\n\ndeny := 7\n"
	clash, err = policies.NewPolicyInForce(clash.Catalogue, clash.Modules)
	require.NoError(t, err)
	var refused *store.GuardrailsError
	require.ErrorAs(t, migrate(clash), &refused)
	require.ErrorContains(t, refused, "usher guardrails remove")
	after, err := s.GetGuardrails(t.Context())
	require.NoError(t, err)
	require.Equal(t, kept, after)

	// A migration that comes in between: what is put in force was asked about.
	asked := 0
	two := guardrail(t, "two")
	result, err := s.PutGuardrails(t.Context(), call(), two, func(_ context.Context, p policies.PolicyInForce) error {
		if asked++; asked == 1 {
			require.Contains(t, p.Modules, "usher/authz/more.rego")
			return migrate(inForce(t))
		}
		require.NotContains(t, p.Modules, "usher/authz/more.rego")
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, asked)
	require.Equal(t, two, result.Value.Guardrails())
	require.NotContains(t, result.Value.Modules, "usher/authz/more.rego")
	requireSound(t, s)
}
